"""Loading causal LMs: folders, hub ids and GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from surd.pretrained.gguf import unpacked
from surd.pretrained.weights import load_weights


def load_language_model(auto: Any, path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a transformers causal LM (a folder, a hub id or a ``.gguf`` file), frozen, in eval mode.

    ``auto``: AutoModelForCausalLM, or AutoModel for its layers without the head. Raises ValueError when its weights are
    not whole, and what transformers raises when it is not there.
    """
    folder = str(unpacked(Path(path), str(dtype).removeprefix("torch."))) if path.endswith(".gguf") else path
    model = load_weights(auto, folder, dtype=dtype)
    return model.requires_grad_(False).eval(), AutoTokenizer.from_pretrained(folder)
