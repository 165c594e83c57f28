"""A pipeline with adapter from a single-file checkpoint, which has no folder that diffusers could load."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from surd.pretrained.checkpoint_file import open_checkpoint
from surd.pretrained.checkpoint_parts import load_checkpoint
from surd.pretrained.diffusion import UnfitModel
from surd.schemas.errors import SurdError


def from_checkpoint(cls: Any, path: str, options: dict[str, Any]) -> Any:
    """A pipeline of class ``cls`` from the file; ``options`` are its parts, which replace the file's, and ``dtype``.

    Raises SurdError when the file is of another kind than ``cls`` runs, or not whole.
    """
    dtype = options.pop("torch_dtype", None)
    dtype = options.pop("dtype", dtype) or torch.float32
    try:
        file = open_checkpoint(path)
        wanted = file.architecture.pipeline
        if not issubclass(cls, getattr(diffusers, wanted)):
            raise UnfitModel(f"is a {wanted}, which {cls.__name__} cannot run; load it with SUR{wanted}")
        parts = load_checkpoint(file, options.keys(), dtype)
    except UnfitModel as error:
        raise SurdError(f"base is {path!r}: it {error}") from None
    if parts["vae"] is not None:
        parts["vae"].to(dtype)
    return cls(**parts | options)
