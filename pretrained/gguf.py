"""GGUF files, converted once into safetensors folders in the user's cache."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import redirect_stderr, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def unpacked(file: Path, dtype: str) -> Path:
    """The folder with the weights of a GGUF file, made at the first call.

    Reading GGUF takes 20 s of a core each time, the folder 0.2 s; and blocks left packed would be unpacked again at
    every matrix product.
    """
    folder = _folder(file, dtype)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    # Both bars, the reader's and the writer's, are drawn whatever transformers is told.
    with redirect_stderr(io.StringIO()), TemporaryDirectory(dir=folder.parent) as temporary:
        model: Any = AutoModelForCausalLM.from_pretrained(
            **where, dtype=getattr(torch, dtype), quantization_config=GgufConfig(dequantize=True)
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        whole = Path(temporary) / folder.name
        model.save_pretrained(whole)
        AutoTokenizer.from_pretrained(**where).save_pretrained(whole)
        with suppress(OSError):  # another process was faster
            whole.rename(folder)
    return folder


@lru_cache(maxsize=4)
def depth(file: Path, dtype: str) -> int:
    """The layers of the LLM in a GGUF file; where it was unpacked before, without reading it, which takes 2 s."""
    config = _folder(file, dtype) / "config.json"
    if config.is_file():
        return int(json.loads(config.read_text(encoding="utf-8"))["num_hidden_layers"])
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    return int(fields[f"{fields['general.architecture'].contents()}.block_count"].contents())


def _folder(file: Path, dtype: str) -> Path:
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    return user_cache_path("surd") / f"{file.stem}-{content}-{dtype}"
