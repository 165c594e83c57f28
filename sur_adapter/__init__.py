"""The SUR-adapter (arXiv 2305.05189): adapter, losses, shard loader, trainer, sampler and evaluation.

What is named here is imported when it is first asked for, so that ``--help`` need not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "SURAdapter": "adapter",
    "SURStableDiffusionPipeline": "stable_diffusion",
    "ShardDataset": "data.shard_dataset",
    "export_authors_checkpoint": "authors_checkpoint",
    "load_authors_checkpoint": "authors_checkpoint",
    "train": "training.trainer",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
