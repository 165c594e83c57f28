"""What the arrays of a column must be, by its manifest."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from surd.schemas.manifest import Buckets, ColumnManifest
from surd.schemas.shard_format.buckets import DIGITS, nearest_bucket, size_and_crop
from surd.schemas.shard_format.manifests import MASK_DTYPE, SIZE_DTYPE, STORED_DTYPES

#: Suffixes of the members of one sample: the array, its mask, its pooled text, size and crop of its picture.
ARRAY, MASK, POOLED, SIZE = "npy", "mask.npy", "pooled.npy", "size.npy"


def members_of(manifest: ColumnManifest) -> list[str]:
    """The suffixes of the members that every sample of a column has, in their order."""
    beside = {MASK: manifest.mask, POOLED: manifest.pooled is not None, SIZE: manifest.buckets is not None}
    return [ARRAY, *(suffix for suffix, is_there in beside.items() if is_there)]


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


def check_size(array: npt.NDArray[Any], latents: npt.NDArray[Any], buckets: Buckets) -> str:
    """The character of a picture's bucket. Raises ValueError unless ``{key}.size.npy`` is what follows from the size of
    a picture, and the latents have the shape of that bucket."""
    if array.dtype.str != SIZE_DTYPE or array.shape != (6,) or int(array[:2].min()) < 1:
        raise ValueError("it is not size and crop of a picture: int32 [6], height and width first")
    height, width = int(array[0]), int(array[1])
    number = nearest_bucket(width, height, buckets.sizes)
    stated, follows = array.tolist(), list(size_and_crop(width, height, buckets.sizes[number]))
    if stated != follows:
        raise ValueError(f"it says {stated}, and of a picture {width} x {height} follows {follows}")
    down, across = (side // buckets.scale for side in follows[4:])
    if latents.shape[-2:] != (down, across):
        raise ValueError(f"its bucket has latents of {down} x {across}, not {latents.shape[-2]} x {latents.shape[-1]}")
    return DIGITS[number]


def _check(array: npt.NDArray[Any], manifest: ColumnManifest, shape: list[int | None]) -> None:
    stored = STORED_DTYPES[manifest.dtype]
    if array.dtype.str != stored:
        raise ValueError(f"its dtype is {array.dtype.str}, and {manifest.dtype} is stored as {stored}")
    lengths = zip(array.shape, shape, strict=False)
    if array.ndim != len(shape) or any(length not in (None, has) for has, length in lengths):
        stated = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"its shape is {list(array.shape)}, its manifest says [{stated}]")
