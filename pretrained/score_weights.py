"""Weights that somebody trained on top of a published network, in a file of plain tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors

from surd.schemas.errors import SurdError, one_line
from surd.schemas.paths import absolute


def read_weights(field: str, name: str) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors by name, and the file's sha256. ``field`` of the config names the file: .safetensors, .pt or .pth.

    Nothing is unpickled but tensors. Raises SurdError where the file is missing or is none of these.
    """
    file = absolute(name)
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise SurdError(f"{field} is {name!r}: the file cannot be read ({error.strerror}); give its path") from None
    try:
        if file.suffix == ".safetensors":
            tensors = load_safetensors(data)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise TypeError("it is not a mapping of names to tensors")
    except Exception as error:  # what torch and safetensors raise on damaged files
        raise SurdError(
            f"{field} is {name!r}: the file holds no weights ({one_line(error, 120)}); give a .safetensors, .pt or .pth"
            " of plain tensors"
        ) from None
    return {str(key): value for key, value in tensors.items()}, hashlib.sha256(data).hexdigest()
