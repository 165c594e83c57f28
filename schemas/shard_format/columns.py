"""What the arrays of a column must be, by its manifest."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from surd.schemas.manifest import ColumnManifest
from surd.schemas.shard_format.manifests import MASK_DTYPE, STORED_DTYPES

#: Suffixes of the members of one sample: the array, its mask, its pooled text.
ARRAY, MASK, POOLED = "npy", "mask.npy", "pooled.npy"


def array_shape(manifest: ColumnManifest) -> list[int | None]:
    """The shape of every ``{key}.npy``; None for a length that differs from sample to sample."""
    return manifest.shape or ([None, manifest.width] if manifest.of_tokens else [manifest.width])


def check_array(array: npt.NDArray[Any], manifest: ColumnManifest) -> None:
    """Raise ValueError unless ``{key}.npy`` has the manifest's dtype and shape."""
    _check(array, manifest, array_shape(manifest))


def check_pooled(array: npt.NDArray[Any], manifest: ColumnManifest) -> None:
    """Raise ValueError unless ``{key}.pooled.npy`` has the manifest's dtype and length."""
    _check(array, manifest, [manifest.pooled])


def check_mask(array: npt.NDArray[Any], tokens: int) -> None:
    """Raise ValueError unless ``{key}.mask.npy`` is 0 or 1 for each of so many tokens."""
    if array.dtype.str != MASK_DTYPE or array.shape != (tokens,) or int(array.max()) > 1:
        raise ValueError(f"it is not a mask: uint8 [{tokens}] of 0 and 1")


def _check(array: npt.NDArray[Any], manifest: ColumnManifest, shape: list[int | None]) -> None:
    stored = STORED_DTYPES[manifest.dtype]
    if array.dtype.str != stored:
        raise ValueError(f"its dtype is {array.dtype.str}, and {manifest.dtype} is stored as {stored}")
    lengths = zip(array.shape, shape, strict=False)
    if array.ndim != len(shape) or any(length not in (None, has) for has, length in lengths):
        stated = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"its shape is {list(array.shape)}, its manifest says [{stated}]")
