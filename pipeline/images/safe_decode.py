"""Turns a stranger's bytes into a decoded picture, in bounded memory, or into the reason why they are none."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from surd.pipeline.images.header import FORMATS, Header, header_of
from surd.pipeline.images.rgb import open_image
from surd.pipeline.net.retry import describe
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason


class PixelBudget:
    """Lets threads decode together only as many pixels as one image may have, so that memory stays bounded."""

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
    """The picture of a file, decoded to its end, as it lies there: not upright yet, of an animation the first frame.

    ``enough``: width and height that will do. A JPEG is then decoded at the scale that just reaches them: every code
    is read whatever the scale, so that damage shows, in half the time. Before any pixel is decoded their number is
    bounded, and must be what the ``header`` was read to say. Raises Rejected, also for what Pillow raises within the
    block.
    """
    with rejecting_decode_errors(), open_image(data, formats=(FORMATS[ext],)) as image:
        opened = header_of(image)
        check_size(opened, max_pixels)
        if image.size != (header.width, header.height):
            told = f"{header.width}x{header.height}"
            raise Rejected(Reason.BROKEN_IMAGE, f"{image.width}x{image.height} pixels, and {told} by its first header")
        with PIXEL_BUDGET.reserve(opened.cost, max_pixels):
            if enough and image.format == "JPEG":
                image.draft(None, enough)
            image.load()
            yield image


@contextmanager
def rejecting_decode_errors() -> Iterator[None]:
    """Whatever Pillow raises on a file, as Rejected."""
    try:
        yield
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected(Reason.TOO_LARGE, str(error)) from None
    except Exception as error:  # Pillow on damaged bytes raises all sorts: OSError, SyntaxError, struct.error ...
        detail = re.sub(r" ?<_io\.[^>]*>", "", describe(error))  # an address in memory differs from run to run
        raise Rejected(Reason.BROKEN_IMAGE, detail) from None


def check_size(header: Header, max_pixels: int) -> None:
    """Raise Rejected where a picture has more pixels than may be decoded, or more than Pillow would."""
    if header.width * header.height > (most := 2 * (Image.MAX_IMAGE_PIXELS or math.inf)):
        raise Rejected(Reason.TOO_LARGE, f"{header.width}x{header.height} pixels, more than the decoder's {most}")
    if header.cost > max_pixels:
        times = f", each counting {header.memory_factor:g} times" if header.memory_factor > 1 else ""
        size = f"{header.width}x{header.height} pixels{times}"
        raise Rejected(Reason.TOO_LARGE, f"{size}, more than max_pixels {max_pixels}")
