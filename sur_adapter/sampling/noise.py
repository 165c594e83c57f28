"""The noise that sampling starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from sur_adapter.base_model import Pipeline


def initial_noise(pipe: Pipeline, seed: int) -> Tensor:
    """[1, C, h, w], drawn on the CPU so that a seed means the same picture on every device."""
    unet = pipe.unet.config
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(1, unet.in_channels, unet.sample_size, unet.sample_size, generator=generator)
    return noise.to(device=pipe.device, dtype=pipe.unet.dtype)
