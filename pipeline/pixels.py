"""Turns original bytes into the RGB picture that every model and hash sees."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from PIL import Image, ImageOps

T = TypeVar("T")


def to_rgb(data: bytes) -> Image.Image:
    """Decode: first frame, turned upright by EXIF, transparency over white, 8-bit RGB.

    Raises what Pillow raises on bytes that do not decode (OSError, ValueError, SyntaxError ...).
    """
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            layer = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return upright.convert("RGB")


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Items in tuples of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch
