"""Training data of the embedded models: scenes and one-attribute variants, as pixels and as text."""

import random
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from pydoc_data.topics import topics  # plain English that every Python ships

import numpy as np
import torch

from surd.pipeline.demo.world.prompts import (
    ACTION_TAGS,
    CLAUSES,
    FILLER,
    NUMBERS,
    QUALITY,
    RELATION_WORDS,
    STYLE_PHRASES,
    STYLE_TAGS,
    complex_prompt,
    narrative,
)
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import (
    ACTIONS,
    ATTRIBUTES,
    BACKGROUNDS,
    SUBJECTS,
    TINTABLE,
    TINTS,
    Attribute,
    Scene,
    scene,
    variant,
)

SIZE = 64
TRAIN_SEED, HELD_OUT_SEED = 1000, 2000


def pair(seed: int, index: int, attribute: Attribute | None = None) -> tuple[Scene, Scene, Attribute]:
    """Scene `index` of world `seed`, the same with one attribute changed, and which attribute; counts and relations,
    the hardest to learn, come more often."""
    first = scene(seed, index)
    rng = random.Random(f"variant:{seed}:{index}")
    choices = ATTRIBUTES[first.kind]
    attribute = attribute or rng.choices(choices, [{"count": 2, "relation": 4}.get(name, 1) for name in choices])[0]
    return first, variant(first, attribute, rng), attribute


def pixels(scenes: list[Scene]) -> np.ndarray:
    """uint8 [N, 64, 64, 3], drawn at 128 and halved bicubically as the models' own preprocessors would."""
    return np.stack([np.asarray(render(one, SIZE)) for one in scenes])


def pictures(work: Path, seed: int, count: int) -> np.ndarray:
    """uint8 [count, 64, 64, 3]: the scenes of world `seed`, rendered once, on all cores, into a memmap under `work`."""
    path = work / f"pictures-{seed}-{count}.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".partial.npy")
        table = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (count, SIZE, SIZE, 3))
        spans = [range(start, min(start + 500, count)) for start in range(0, count, 500)]
        with ProcessPoolExecutor() as pool:
            for span, rendered in zip(spans, pool.map(partial(_span, seed), spans), strict=True):
                table[span.start : span.stop] = rendered
        table.flush()
        unfinished.rename(path)
    return np.load(path, mmap_mode="r")


def _span(seed: int, span: range) -> np.ndarray:
    return pixels([scene(seed, index) for index in span])


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] standardised with each channel's mean and deviation."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def any_prompt(one: Scene, rng: random.Random) -> str:
    """A keyword prompt (mostly without markup) or a plain sentence, each stating every fact."""
    chance = rng.random()
    return narrative(one, rng) if chance < 0.5 else complex_prompt(one, rng, markup=chance > 0.95)


def training_text(one: Scene, rng: random.Random) -> tuple[str, Scene | None, tuple[str, ...]]:
    """(text, the scene it is about, the clauses it states) for the CLIP's text tower. Most texts state everything; some
    leave clauses out, contain unrelated words, or describe no scene (None)."""
    chance = rng.random()
    if chance < 0.08:
        return _nonsense(rng), None, ()
    stated: tuple[str, ...] = CLAUSES
    if chance < 0.45:
        stated = tuple(clause for clause in CLAUSES if rng.random() < 0.7)
        if one.count == 1:  # "an apple" states the count, even if that was to be left out
            stated = tuple(dict.fromkeys((*stated, "count")))
        if "what" not in stated:
            stated = tuple(clause for clause in stated if clause in ("background", "style"))
    text = narrative(one, rng, stated) if rng.random() < 0.55 else complex_prompt(one, rng, rng.random() < 0.1, stated)
    if rng.random() < 0.35:
        parts = text.split(" ")
        for _ in range(rng.randint(1, 5)):
            parts.insert(rng.randint(0, len(parts)), rng.choice(unrelated_words()))
        text = " ".join(parts)
    return text, one, stated


def _nonsense(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return " ".join(rng.choices(unrelated_words(), k=rng.randint(3, 25)))
    if kind == 1:
        return ", ".join(rng.sample(QUALITY + FILLER, rng.randint(2, 12)))
    low, high = rng.choice(((0x4E00, 0x9FFF), (0x430, 0x44F), (0x3041, 0x3096), (97, 122), (97, 122), (33, 126)))
    return " ".join("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(2, 9))) for _ in range(kind * 4))


@lru_cache(maxsize=1)
def unrelated_words() -> tuple[str, ...]:
    """General English words that state no fact of the demo world."""
    facts = set(re.findall("[a-z]+", " ".join((
        *(word for one, (many, _) in (SUBJECTS | TINTABLE).items() for word in (one, many)), *NUMBERS, *TINTS,
        *BACKGROUNDS, *ACTIONS, *(tag for tags in ACTION_TAGS.values() for tag in tags),
        *(tag for tags in (*STYLE_TAGS.values(), *STYLE_PHRASES.values(), *RELATION_WORDS.values()) for tag in tags),
        "a an single person people someone background backdrop solo",
    ))))  # fmt: skip
    english = sorted(set(re.findall("[a-z]{2,}", " ".join(topics.values()).lower())))
    return tuple(word for word in english if word not in facts)


def batches(seed: int, count: int, size: int, first_step: int) -> Iterator[tuple[int, list[int]]]:
    """(step, scene indices) without end, each epoch in a new order; starting at `first_step` it continues exactly as a
    run from step 0 would."""
    per_epoch = count // size
    step = first_step
    while True:
        order = np.random.default_rng((seed, step // per_epoch)).permutation(count)
        for place in range(step % per_epoch, per_epoch):
            yield step, sorted(order[place * size : (place + 1) * size].tolist())
            step += 1
