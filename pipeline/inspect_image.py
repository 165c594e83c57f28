"""Turns a stranger's bytes into the columns of a pair, or into the reason why they are not an image to keep."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from pipeline import foreign_json
from pipeline.chunks import end_of
from pipeline.metadata.exif import orientation
from pipeline.metadata.reader import GenerationMetadata, read_texts
from pipeline.metadata.texts import texts_of
from pipeline.pixels import SIDEWAYS, open_image, upright_rgb
from pipeline.reencode import Recoded, fitted, recode
from pipeline.refusal import Refused
from pipeline.twins.look_alike import SIDE, Pixels, miniature, perceptual_hash
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
_ENOUGH = (2 * SIDE, 2 * SIDE)  # pixels to make a miniature of
_ZIP_END = b"PK\x05\x06"
_PIXELS_A_LETTER = 9  # what parsing a text may take of memory, as many pixels of 8 bytes


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


def inspect(data: bytes, settings: FetchConfig) -> tuple[dict[str, Any], Pixels, bytes]:
    """What the bytes are, as columns of a pair: sniffed, bounded by the header, metadata read, decoded to their end;
    the picture in miniature; and the bytes to keep, which are the same or, where the config asks, a smaller JPEG.

    Of an animation the first frame counts. Width and height are those of the upright picture. Raises Refused.
    """
    ext = sniff(data)
    try:
        with open_image(data, formats=(_FORMATS[ext],)) as image:
            metadata, (width, height), small, smaller = _looked_at(image, data, settings)
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(Reason.TOO_LARGE, str(error)) from None
    except Exception as error:  # Pillow on damaged bytes raises all sorts: OSError, SyntaxError, struct.error ...
        detail = re.sub(r" ?<_io\.[^>]*>", "", describe(error))  # an address in memory differs from run to run
        raise Refused(Reason.BROKEN_IMAGE, detail) from None
    end = end_of(data)
    if end is None and ext != "jpg":  # a JPEG that breaks off does not decode
        raise Refused(Reason.BROKEN_IMAGE, "the file breaks off before its end")
    if other := other_file(data[end or len(data) :]):
        raise Refused(Reason.POLYGLOT, f"behind the end of the image begins {other}")
    columns = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "ext": ext,
        "size": len(data),
        "width": width,
        "height": height,
        "phash": perceptual_hash(small),
        "prompt": metadata and metadata.prompt,
        "negative_prompt": metadata and metadata.negative_prompt,
        "tool": metadata and metadata.tool,
        "params": foreign_json.dump(metadata.params) if metadata and metadata.params else None,
        "models": metadata and metadata.models,
        "loras": metadata and metadata.loras,
    }
    if smaller is None:
        return columns, small, data
    original = {f"original_{name}": columns[name] for name in ("sha256", "width", "height")}
    return columns | original | smaller.columns(), small, smaller.data


def _looked_at(
    image: Image.Image, data: bytes, settings: FetchConfig
) -> tuple[GenerationMetadata | None, tuple[int, int], Pixels, Recoded | None]:
    """What an opened image says of its making, its upright size, its miniature and, where the config asks, a smaller
    JPEG of it; all else of it is forgotten."""
    (width, height), max_pixels = image.size, settings.max_pixels
    room = int(width * height * (weight := _weight(image)))
    if room > max_pixels:
        times = f", each counting {weight:g} times" if weight > 1 else ""
        raise Refused(Reason.TOO_LARGE, f"{width}x{height} pixels{times}, more than max_pixels {max_pixels}")
    texts = texts_of(data)
    letters = sum(map(len, texts.values()))
    with _ROOM.of(max(room, _PIXELS_A_LETTER * letters), max_pixels):
        if image.format == "JPEG":  # every code is read whatever the scale, so that damage shows, in half the time
            image.draft(None, fitted(width, height, settings.image_size) if settings.image_size else _ENOUGH)
        image.load()
        metadata = read_texts(texts, None if image.format == "JPEG" else image)
        turned = orientation(data)
        picture = upright_rgb(image, turned)
        smaller = recode(picture, settings.image_size, settings.quality) if settings.image_size else None
        small = miniature(picture)
        picture.close()
    return metadata, (height, width) if turned in SIDEWAYS else (width, height), small, smaller


def _weight(image: Image.Image) -> float:
    """What decoding takes of memory, in shares of 8 bytes a pixel."""
    if image.format == "WEBP":
        return 2
    return 1.5 if image.mode == "CMYK" or "progressive" in image.info else 1


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


def other_file(tail: bytes) -> str | None:
    """What other file lies behind the end of an image, by its first bytes, or a ZIP by its last; None: none.

    Padding, thumbnails and text that cameras and tools append are no such file.
    """
    start = tail[:1024].lstrip(b"\0 \r\n\t")
    if found := next((mark for mark in _OTHER_FILES if start.lower().startswith(mark.lower())), None):
        return repr(found.decode("latin-1"))
    position = tail.rfind(_ZIP_END, -65_557)
    if position >= 0 and position + 22 + int.from_bytes(tail[position + 20 : position + 22], "little") == len(tail):
        return "a ZIP"
    return None
