"""Turns the bytes of ``.npy`` files into arrays, and refuses whatever is not plain numbers of the promised shape."""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from surd.schemas.manifest import ColumnManifest

MAGIC = b"\x93NUMPY\x01\x00"
MASK = np.dtype("u1")
#: How NumPy stores a column's dtype.
STORED = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
# NumPy itself evaluates the header as a Python literal.
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufO][0-9]{0,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,15},? ?){0,8})\),? ?\}\s*"
)


def read_npy(data: bytes) -> np.ndarray:
    """A read-only array over the bytes of an ``.npy`` file of version 1.0; ValueError saying why where it is none.

    The header is checked against the bytes at hand, so that a claim allocates nothing, and objects (pickles) are
    refused.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("is not an NPY file of version 1.0")
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, order, dtype = _header(data[10:start])
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"claims {shape} of {dtype}, but holds {len(data) - start} bytes")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order=order)


def _header(header: bytes) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    found = _HEADER.fullmatch(header)
    if found is None:
        raise ValueError("has a header that is none of an array of numbers")
    descr, fortran, lengths = found.groups()
    if descr[1:2] == b"O":
        raise ValueError("asks for pickle")
    shape = tuple(int(length) for length in lengths.split(b",") if length.strip())
    return shape, "F" if fortran == b"True" else "C", np.dtype(descr.decode())


def check_column(array: np.ndarray, manifest: ColumnManifest) -> None:
    """ValueError when an array is not what its column's manifest says."""
    check_numbers(array, manifest, manifest.shape or [None] * (array.ndim - 1) + [manifest.width])


def check_numbers(array: np.ndarray, manifest: ColumnManifest, wanted: list[int | None]) -> None:
    """ValueError when an array is not of its column's dtype, or not of the ``wanted`` shape."""
    if array.dtype != STORED[manifest.dtype]:
        raise ValueError(f"is {array.dtype} where the manifest says {manifest.dtype}")
    if len(wanted) != array.ndim or any(n not in (None, m) for n, m in zip(wanted, array.shape, strict=True)):
        said = ", ".join("any" if n is None else str(n) for n in wanted)
        raise ValueError(f"has shape {array.shape} where the manifest says ({said})")


def to_float(array: np.ndarray) -> Tensor:
    """float32 of stored numbers, bfloat16 bits among them. ``array`` must be writable, as torch wants it."""
    if array.dtype == STORED["bfloat16"]:
        return torch.from_numpy(array).view(torch.bfloat16).float()
    return torch.from_numpy(array).float()
