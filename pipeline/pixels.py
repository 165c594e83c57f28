"""Turns original bytes into the RGB picture that every model and hash sees."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from PIL import Image, ImageOps

S = TypeVar("S")
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
