"""Turns original bytes into the RGB picture that every model and hash sees."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

S = TypeVar("S")
T = TypeVar("T")
_STRIP = 256  # rows


def to_rgb(data: bytes) -> Image.Image:
    """Decode by one rule for every kind of image: 8-bit RGB, as a browser on a white page would show it.

    Of an animation the first frame; turned upright by its EXIF orientation; transparency over white; of 16 bits a
    channel the upper 8; palettes and grey as their colours; CMYK by Pillow's formula (colour profiles are not applied).
    At most 8 bytes a pixel are in memory. Raises what Pillow raises on bytes that do not decode (OSError, ValueError,
    SyntaxError ...).
    """
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):  # convert() would clip what is above 255 to white
            return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            return _over_white(image)
        return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Strip by strip: whole layers of a large image would take three times the memory."""
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        layer = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), (0, top))
    return opaque


def ahead(function: Callable[[S], T], items: Iterable[S], window: int) -> Iterator[T]:
    """``map`` on every core, in order, up to ``window`` results ahead of whoever reads them.

    While a model works on one batch the next one is decoded; Pillow lets other threads run meanwhile.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pending: deque[Future[T]] = deque()
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Items in tuples of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch
