"""A causal LM as a reader of texts: its layers without the head, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from surd.pretrained.gguf import unpacked
from surd.pretrained.weights import load_weights


def load_backbone(path: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a transformers causal LM (a folder, a hub id or a ``.gguf`` file), frozen, in eval mode.

    Raises ValueError when its weights are not whole, and what transformers raises when it is not there.
    """
    folder = str(unpacked(Path(path), str(dtype).removeprefix("torch."))) if path.endswith(".gguf") else path
    model = load_weights(AutoModel, folder, dtype=dtype)
    return model.requires_grad_(False).eval(), AutoTokenizer.from_pretrained(folder)
