"""GGUF files, converted once into safetensors folders in the user's cache."""

from __future__ import annotations

import hashlib
import io
from contextlib import redirect_stderr, suppress
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
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    folder = user_cache_path("surd") / f"{file.stem}-{content}-{dtype}"
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
