"""Renders prompts and seeds to picture files in batches; files that exist are kept, so a second call continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sur_adapter.base_model import Pipeline
from sur_adapter.sampling.noise import initial_noise
from surd.pretrained.precision import computes_bfloat16

OnPictures = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How pictures are rendered: the same for every arm of a comparison."""

    seeds: int
    steps: int
    guidance_scale: float
    batch_size: int = 64
    precision: str = "auto"


def render(
    pipe: Pipeline, prompts: Sequence[str], settings: RenderSettings, folder: Path, on_pictures: OnPictures
) -> np.ndarray:
    """Render every prompt with every seed into ``folder``, except files that exist; returns the files [S, P].

    The noise of (prompt index, seed) is the same for every arm and in every batch. ``on_pictures`` is called with the
    number of pictures finished since the last call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = list(product(range(settings.seeds), range(len(prompts))))
    files = [folder / f"{index:05d}-{seed}.png" for seed, index in pairs]
    missing = [item for item, file in enumerate(files) if not file.exists()]
    on_pictures(len(files) - len(missing))
    with torch.inference_mode(), computing_in(settings.precision, pipe.device):
        for begin in range(0, len(missing), settings.batch_size):
            batch = missing[begin : begin + settings.batch_size]
            images = pipe(
                [prompts[pairs[item][1]] for item in batch],
                latents=torch.cat([initial_noise(pipe, noise_seed(*pairs[item])) for item in batch]),
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
            ).images
            for item, image in zip(batch, images, strict=True):
                _save(image, files[item])
            on_pictures(len(batch))
    return np.array(files, dtype=object).reshape(settings.seeds, len(prompts))


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 for precision ``bfloat16``; for ``auto``, if the processor computes in it."""
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16(device) else "float32"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def noise_seed(seed: int, index: int) -> int:
    """The seed of the noise of prompt ``index``: one of its own for every (seed, prompt)."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _save(image: Image.Image, file: Path) -> None:
    """Write to a temporary name and rename, so that a file that exists is whole."""
    partial = file.with_suffix(".partial")
    image.save(partial, format="PNG", compress_level=1)
    partial.replace(file)
