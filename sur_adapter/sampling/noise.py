"""The noise that sampling starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from sur_adapter.base_model import Pipeline, backbone


def initial_noise(pipe: Pipeline, seed: int) -> Tensor:
    """[1, C, h, w], drawn on the CPU so that a seed means the same picture on every device."""
    denoiser = backbone(pipe)
    config = denoiser.config
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(1, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    return noise.to(device=pipe.device, dtype=denoiser.dtype)
