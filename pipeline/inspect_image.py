"""Turns a stranger's bytes into the columns of a pair, or into the reason why they are not an image to keep."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from pipeline import foreign_json
from pipeline.metadata import read_metadata
from pipeline.pixels import to_rgb
from pipeline.refusal import Refused
from pipeline.twins.look_alike import Pixels, miniature, perceptual_hash
from pipeline.web import describe
from schemas import Reason
from schemas.config import FetchConfig

_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
#: How a file begins that somebody could hide behind an image: archives, programs, documents, pages.
_OTHER_FILES = (
    b"PK\x03\x04",
    b"Rar!",
    b"7z\xbc\xaf",
    b"%PDF",
    b"\x7fELF",
    b"<html",
    b"<!doctype",
    b"<script",
    b"<?php",
)
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # one that ends coded pixels: neither stuffing nor restart
_ZIP_END = b"PK\x05\x06"


class _Room:
    """Lets threads decode together only as many pixels as one image may have, so that memory stays bounded."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._taken = 0

    @contextmanager
    def of(self, pixels: int, most: int) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._taken or self._taken + pixels <= most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._condition:
                self._taken -= pixels
                self._condition.notify_all()


_ROOM = _Room()


def inspect(data: bytes, settings: FetchConfig) -> tuple[dict[str, Any], Pixels]:
    """What the bytes are, as columns of a pair: sniffed, bounded by the header, metadata read, then fully decoded; and
    the picture in miniature.

    Of an animation the first frame counts. Width and height are those of the upright picture. Raises Refused.
    """
    ext = sniff(data)
    try:
        with Image.open(io.BytesIO(data), formats=(_FORMATS[ext],)) as header:
            width, height = header.size
        if width * height > settings.max_pixels:
            raise Refused(Reason.TOO_LARGE, f"{width}x{height} pixels, more than max_pixels {settings.max_pixels}")
        metadata = read_metadata(data)
        with _ROOM.of(width * height, settings.max_pixels):
            picture = to_rgb(data)
            small = miniature(picture)
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(Reason.TOO_LARGE, str(error)) from None
    except Exception as error:  # Pillow on damaged bytes raises all sorts: OSError, SyntaxError, struct.error ...
        detail = re.sub(r" ?<_io\.[^>]*>", "", describe(error))  # an address in memory differs from run to run
        raise Refused(Reason.BROKEN_IMAGE, detail) from None
    if other := other_file(data, ext):
        raise Refused(Reason.POLYGLOT, f"behind the end of the image begins {other}")
    columns = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "ext": ext,
        "size": len(data),
        "width": picture.width,
        "height": picture.height,
        "phash": perceptual_hash(small),
        "prompt": metadata and metadata.prompt,
        "negative_prompt": metadata and metadata.negative_prompt,
        "tool": metadata and metadata.tool,
        "params": foreign_json.dump(metadata.params) if metadata and metadata.params else None,
    }
    return columns, small


def sniff(data: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by the first bytes. Raises Refused on anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    start = data[:64].lstrip().lower()
    what = "HTML" if start.startswith((b"<!doctype", b"<html")) else "nothing" if not data else repr(data[:16])
    raise Refused(Reason.NOT_AN_IMAGE, f"the bytes begin with {what}" if data else "the file is empty")


def other_file(data: bytes, ext: str) -> str | None:
    """What other file lies behind the end of a sound image, by its first bytes, or a ZIP by its last; None: none.

    Padding, thumbnails and text that cameras and tools append are no such file.
    """
    tail = data[_end(data, ext) :]
    start = tail[:1024].lstrip(b"\0 \r\n\t")
    if found := next((mark for mark in _OTHER_FILES if start.lower().startswith(mark.lower())), None):
        return repr(found.decode("latin-1"))
    position = tail.rfind(_ZIP_END, -65_557)
    if position >= 0 and position + 22 + int.from_bytes(tail[position + 20 : position + 22], "little") == len(tail):
        return "a ZIP"
    return None


def _end(data: bytes, ext: str) -> int:
    """Where the image ends and anything else begins."""
    if ext == "webp":
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2
    if ext == "png":
        position = 8
        while position + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
            position += 12 + length
            if kind == b"IEND":
                return position
        return len(data)
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        kind = data[position + 1]
        if kind == 0xD9:
            return position + 2
        if kind == 0xFF:  # fill
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind == 0xDA:  # start of scan: coded pixels follow, to the next marker
            marker = _JPEG_MARKER.search(data, position)
            position = marker.start() if marker else len(data)
    return len(data)
