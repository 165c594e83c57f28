"""The SUR-adapter (arXiv 2305.05189): adapter, losses, shard loader, trainer, sampler and evaluation.

Names are imported on first access, so that ``--help`` need not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "SURAdapter": "adapter",
    "SURPixArtSigmaPipeline": "transformer_pipelines",
    "SURStableDiffusion3Pipeline": "transformer_pipelines",
    "SURStableDiffusionPipeline": "stable_diffusion",
    "SURStableDiffusionXLPipeline": "stable_diffusion",
    "ShardDataset": "data.shard_dataset",
    "export_authors_checkpoint": "authors_checkpoint",
    "load_authors_checkpoint": "authors_checkpoint",
    "train": "training.trainer",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
