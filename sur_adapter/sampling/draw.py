"""Turns prompts and seeds into pictures on disk, in batches as large as they come, and goes on where it stopped."""

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
from torch import Tensor

from sur_adapter.base_model import Pipeline

OnPictures = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How pictures are drawn: the same for every arm that is to be compared."""

    seeds: int
    steps: int
    guidance_scale: float
    batch_size: int = 64
    precision: str = "auto"


def draw(pipe: Pipeline, prompts: Sequence[str], how: Drawing, folder: Path, on_pictures: OnPictures) -> np.ndarray:
    """Draw every prompt with every seed into ``folder``, but not what lies there already; returns the files [S, P].

    The noise of (prompt's place, seed) is the same for every arm and in every batch. ``on_pictures`` hears how many
    pictures more there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(product(range(how.seeds), range(len(prompts))))
    files = [folder / f"{place:05d}-{seed}.png" for seed, place in wanted]
    missing = [item for item, file in enumerate(files) if not file.exists()]
    on_pictures(len(files) - len(missing))
    with torch.inference_mode(), computing_in(how.precision, pipe.device):
        for begin in range(0, len(missing), how.batch_size):
            batch = missing[begin : begin + how.batch_size]
            images = pipe(
                [prompts[wanted[item][1]] for item in batch],
                latents=torch.stack([_noise(pipe, *wanted[item]) for item in batch]),
                num_inference_steps=how.steps,
                guidance_scale=how.guidance_scale,
            ).images
            for item, image in zip(batch, images, strict=True):
                _save(image, files[item])
            on_pictures(len(batch))
    return np.array(files, dtype=object).reshape(how.seeds, len(prompts))


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where it was asked for, or where the processor computes in it and nothing was asked."""
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16(device) else "float32"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16; where it does not, float32 is the faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16"))


def _noise(pipe: Pipeline, seed: int, place: int) -> Tensor:
    """[C, h, w], drawn on the CPU so that a seed means the same picture on every device."""
    unet = pipe.unet.config
    state = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
    noise = torch.randn(
        unet.in_channels, unet.sample_size, unet.sample_size, generator=torch.Generator().manual_seed(state)
    )
    return noise.to(device=pipe.device, dtype=pipe.unet.dtype)


def _save(image: Image.Image, file: Path) -> None:
    """Beside its name first, so that a picture that is there is whole."""
    partial = file.with_suffix(".partial")
    image.save(partial, format="PNG", compress_level=1)
    partial.replace(file)
