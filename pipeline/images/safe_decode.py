"""Decoding of untrusted images in bounded memory; every failure is a Rejected with its reason."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from surd.pipeline.images.header import FORMATS, Header, header_of
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.shard_format.complete import complete_jpeg
from surd.schemas.shard_format.container import TooComplex
from surd.schemas.shard_format.pixels import open_image


class PixelBudget:
    """Caps the pixels being decoded at once, over all threads, at what one image may have: memory stays bounded."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._taken = 0

    @contextmanager
    def reserve(self, pixels: int, most: int) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._taken or self._taken + pixels <= most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._condition:
                self._taken -= pixels
                self._condition.notify_all()


PIXEL_BUDGET = PixelBudget()


@contextmanager
def decoded(
    data: bytes, header: Header, ext: str, max_pixels: int, enough: tuple[int, int] | None = None
) -> Iterator[Image.Image]:
    """The picture of a file, decoded to its end, as stored: not turned upright, of an animation the first frame. A file
    that lacks only its end is whole (``shard_format.complete``).

    ``enough``: the smallest width and height needed. A JPEG is then decoded at the scale that just reaches them: every
    code is read at any scale, so damage still shows, in half the time. Before any pixel is decoded their number is
    checked against ``max_pixels`` and the ``header``. Raises Rejected, also for what Pillow raises within the block.
    """
    with rejecting_decode_errors(), open_image(data, formats=(FORMATS[ext],)) as image:
        opened = header_of(image)
        check_size(opened, max_pixels)
        if image.size != (header.width, header.height):
            size = f"{header.width}x{header.height}"
            raise Rejected(Reason.BROKEN_IMAGE, f"{image.width}x{image.height} pixels, and {size} by its first header")
        with PIXEL_BUDGET.reserve(opened.cost, max_pixels), _whole(data, image) as whole:
            if enough and whole.format == "JPEG":
                whole.draft(None, enough)
            whole.load()
            yield whole


@contextmanager
def _whole(data: bytes, image: Image.Image) -> Iterator[Image.Image]:
    """An opened picture; of a JPEG that lacks its end mark another, with it."""
    if (completed := complete_jpeg(data)) is data:
        yield image
        return
    with open_image(completed, formats=("JPEG",)) as whole:
        yield whole


@contextmanager
def rejecting_decode_errors() -> Iterator[None]:
    """Turns whatever Pillow raises on a file into Rejected."""
    try:
        yield
    except Rejected:
        raise
    except TooComplex as error:
        raise Rejected(Reason.TOO_COMPLEX, str(error)) from None
    except Image.DecompressionBombError as error:
        raise Rejected(Reason.TOO_LARGE, str(error)) from None
    except Exception as error:  # Pillow on damaged bytes raises all sorts: OSError, SyntaxError, struct.error ...
        detail = re.sub(
            r" ?<_io\.[^>]*>", "", f"{type(error).__name__}: {error}".rstrip(": ")
        )  # an address in memory differs from run to run
        raise Rejected(Reason.BROKEN_IMAGE, detail) from None


def check_aspect(header: Header, max_aspect: float) -> None:
    """Raises Rejected if one side of a picture is too many times the other: it is resized by the shorter one."""
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    if longer > max_aspect * shorter:
        size = f"{header.width}x{header.height} pixels"
        raise Rejected(Reason.EXTREME_ASPECT, f"{size}, one side more than max_aspect {max_aspect:g} times the other")


def check_size(header: Header, max_pixels: int) -> None:
    """Raises Rejected if a picture has more pixels than may be decoded, or than Pillow would decode."""
    if header.width * header.height > (most := 2 * (Image.MAX_IMAGE_PIXELS or math.inf)):
        raise Rejected(Reason.TOO_LARGE, f"{header.width}x{header.height} pixels, more than the decoder's {most}")
    if header.cost > max_pixels:
        times = f", each counting {header.memory_factor:g} times" if header.memory_factor > 1 else ""
        size = f"{header.width}x{header.height} pixels{times}"
        raise Rejected(Reason.TOO_LARGE, f"{size}, more than max_pixels {max_pixels}")
