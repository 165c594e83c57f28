"""Turns a seed into what the embedded models learn from: scenes with one-attribute variants, as pixels and as words."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .prompts import complex_prompt, narrative
from .render import render
from .scenes import ATTRIBUTES, Attribute, Scene, scene, variant

SIZE = 64
TRAIN_SEED, HELD_OUT_SEED = 1000, 2000


def pair(seed: int, index: int, attribute: Attribute | None = None) -> tuple[Scene, Scene, Attribute]:
    """Scene `index` of world `seed`, the same with one attribute changed, and which; counts and relations, the hardest
    to learn, come often."""
    first = scene(seed, index)
    rng = random.Random(f"variant:{seed}:{index}")
    choices = ATTRIBUTES[first.kind]
    attribute = attribute or rng.choices(choices, [{"count": 2, "relation": 4}.get(name, 1) for name in choices])[0]
    return first, variant(first, attribute, rng), attribute


def pixels(scenes: list[Scene]) -> np.ndarray:
    """uint8 [N, 64, 64, 3], drawn at 128 and halved bicubically as the models' own preprocessors would."""
    return np.stack([np.asarray(render(one, SIZE)) for one in scenes])


def pictures(work: Path, seed: int, count: int) -> np.ndarray:
    """uint8 [count, 2, 64, 64, 3]: scenes and their variants, rendered once into a memmap under `work`."""
    path = work / f"pictures-{seed}-{count}.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        table = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, 2, SIZE, SIZE, 3))
        for index in range(count):
            table[index] = pixels(list(pair(seed, index)[:2]))
        table.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] with each channel's mean and deviation taken out."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def words(one: Scene, rng: random.Random) -> str:
    """What the CLIP learns to match: a keyword prompt (mostly without markup) or a plain sentence."""
    chance = rng.random()
    return narrative(one, rng) if chance < 0.5 else complex_prompt(one, rng, markup=chance > 0.95)


def batches(seed: int, count: int, size: int, first_step: int) -> Iterator[tuple[int, list[int]]]:
    """(step, scene indices) for ever, each epoch in a new order; starting at `first_step` it goes on exactly as a run
    from step 0 would have."""
    per_epoch = count // size
    step = first_step
    while True:
        order = np.random.default_rng((seed, step // per_epoch)).permutation(count)
        for place in range(step % per_epoch, per_epoch):
            yield step, sorted(order[place * size : (place + 1) * size].tolist())
            step += 1
