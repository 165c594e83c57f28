"""The authors' files of LLM vectors, ``prompt2vec/<llm>/<layer>.pt``, read as arrays by prompt, and written.

Such a file is a torch-saved mapping of a prompt to a tensor, [width] or [tokens, width]. A .pt is a pickle: this one is
read without running anything, and refused where it asks for more than tensors.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from surd.schemas import SurdError

_DTYPES = {
    torch.float16: np.dtype(np.float16),
    torch.float32: np.dtype(np.float32),
    torch.bfloat16: np.dtype(np.uint16),
}


class PromptVectors(Mapping[str, npt.NDArray[Any]]):
    """Prompt -> array as columns hold it (bfloat16 as its bits). Raises SurdError if the file is not valid."""

    def __init__(self, path: Path) -> None:
        self._vectors = _load(path)
        shapes = {(tensor.dtype, tensor.ndim, tensor.shape[-1:]) for tensor in self._vectors.values()}
        if len(shapes) > 1:
            raise SurdError(f"{path}: its vectors differ in dtype or width; save each kind as a file of its own")

    def __getitem__(self, prompt: str) -> npt.NDArray[Any]:
        tensor = self._vectors[prompt]
        bits = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
        return np.ascontiguousarray(bits.numpy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def of_tokens(self) -> bool:
        """Whether there is a vector for each token of a prompt."""
        return next(iter(self._vectors.values())).ndim == 2


def vector_file(vectors: Mapping[str, npt.NDArray[Any]], *, bfloat16: bool) -> bytes:
    """The bytes of a ``.pt`` of these arrays, as the authors' code loads it; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    torch.save({prompt: _tensor(array, bfloat16) for prompt, array in vectors.items()}, buffer)
    return buffer.getvalue()


def _tensor(array: npt.NDArray[Any], bfloat16: bool) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if bfloat16 else tensor


def _load(path: Path) -> dict[str, torch.Tensor]:
    """Check what the file would ask for, then load it. Raises SurdError."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        asked = get_unsafe_globals_in_checkpoint(path)
        if packed or asked:
            why = f"it holds code ({', '.join(sorted(asked))[:200]})" if asked else "its parts are compressed"
            raise SurdError(
                f"{path}: it cannot be read safely: {why}; save it again as a plain mapping of prompts to tensors"
            )
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SurdError, MemoryError):
        raise
    except Exception as error:  # torch on a foreign or damaged file raises all sorts
        why = f"{error.__class__.__name__}: {' '.join(str(error).split())[:200]}"
        raise SurdError(f"{path}: it cannot be read safely as a file of vectors ({why}); leave it out") from None
    if not isinstance(found, dict) or not found:
        raise SurdError(f"{path}: it holds {type(found).__name__}, not a mapping of prompts to tensors; leave it out")
    for prompt, tensor in found.items():
        if fault := _fault(prompt, tensor):
            raise SurdError(f"{path}: entry {str(prompt)[:80]!r} {fault}; leave the file out, or save it again")
    return found


def _fault(prompt: Any, tensor: Any) -> str | None:
    if not isinstance(prompt, str):
        return "is not a prompt"
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in _DTYPES or tensor.layout != torch.strided:
        return "is not a tensor of float16, bfloat16 or float32"
    if tensor.ndim not in (1, 2) or not tensor.numel():
        return f"has shape {list(tensor.shape)}, not [width] or [tokens, width]"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():  # a stride of 0 repeats one number
        return f"claims {tensor.numel():,} numbers and has fewer"
    return None if bool(tensor.isfinite().all()) else "holds NaN or infinity"
