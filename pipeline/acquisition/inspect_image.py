"""Turns a stranger's bytes into the columns of a pair, or into the reason why they are not an image to keep."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.images.header import Header, read_header, sniff
from surd.pipeline.images.resize import Recoded, fitted, recode, recode_jpeg
from surd.pipeline.images.safe_decode import PIXEL_BUDGET, check_size, decoded, rejecting_decode_errors
from surd.pipeline.metadata.reader import GenerationMetadata, hidden_texts, read_texts
from surd.pipeline.metadata.stealth import may_hide_text
from surd.pipeline.metadata.texts import texts_of
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.container import Segment, image_end, segments
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import SWAPS_AXES, upright_rgb

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
_ZIP_END = b"PK\x05\x06"
_LIGHT = 1_000_000  # bytes
#: Chunks that hold texts, EXIF, or pixels in which a text may hide that is not found without decoding them.
_TELLING = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"EXIF", b"XMP ", b"VP8L", b"ALPH", b"ANMF", b"\xff\xe1", b"\xff\xfe"}
_PIXELS_A_LETTER = 9  # what parsing a text may take of memory, as many pixels of 8 bytes


def inspect(data: bytes, settings: FetchConfig, sha256: str | None = None) -> tuple[dict[str, Any], bytes]:
    """What the bytes are, as columns of a pair: sniffed, bounded by the header, whole as far as their structure tells,
    metadata read; and the bytes to keep, which are the same or, where the config asks, a smaller JPEG.

    Pixels are decoded only where they are needed here: to make them fewer, to find a text hidden in them, and to tell
    whether a JPEG without its end mark is all there. That all others decode is for the stage decode to prove. Width and
    height are those of the upright picture. ``sha256``: of the bytes, where it is known. Raises Rejected.
    """
    ext = sniff(data)
    return _inspect(data, ext, [*segments(data, whole=True)], settings, sha256)


def inspect_cheap(data: bytes, settings: FetchConfig, sha256: str | None) -> tuple[dict[str, Any], bytes] | None:
    """The same where that takes a fraction of a millisecond, else None: of files that are not large and have no text to
    read, nothing to unpack and nothing to decode."""
    if len(data) > _LIGHT or settings.image_size:
        return None
    ext = sniff(data)
    parts = [*segments(data, whole=True)]
    at_once = image_end(data, parts) is not None and _TELLING.isdisjoint([chunk.kind for chunk in parts])
    return _inspect(data, ext, parts, settings, sha256) if at_once else None


def _inspect(
    data: bytes, ext: str, parts: list[Segment], settings: FetchConfig, sha256: str | None
) -> tuple[dict[str, Any], bytes]:
    telling = not _TELLING.isdisjoint([chunk.kind for chunk in parts])
    with rejecting_decode_errors():
        header = read_header(data, ext, parts)
        check_size(header, settings.max_pixels)
        metadata = _metadata(data, ext, header, settings) if telling or may_hide_text(data) else None
        smaller = _smaller(data, ext, header, settings) if settings.image_size else None
        end = image_end(data, parts) or _end(data, ext, header, settings)
    if other := other_file(data[end:]):
        raise Rejected(Reason.POLYGLOT, f"behind the end of the image begins {other}")
    turned = telling and orientation(data) in SWAPS_AXES
    columns = {
        "sha256": sha256 or hashlib.sha256(data).hexdigest(),
        "ext": ext,
        "size": len(data),
        "width": header.height if turned else header.width,
        "height": header.width if turned else header.height,
        "prompt": metadata and metadata.prompt,
        "negative_prompt": metadata and metadata.negative_prompt,
        "tool": metadata and metadata.tool,
        "params": untrusted_json.dump(metadata.params) if metadata and metadata.params else None,
        "models": metadata and metadata.models,
        "loras": metadata and metadata.loras,
    }
    if smaller is None:
        return columns, data
    original = {f"original_{name}": columns[name] for name in ("sha256", "width", "height")}
    return columns | original | smaller.columns(), smaller.data


def _metadata(data: bytes, ext: str, header: Header, settings: FetchConfig) -> GenerationMetadata | None:
    """What a file says of its making, in its texts or, where they have no prompt, in its pixels."""
    texts = texts_of(data)
    found = _read(texts, settings.max_pixels)
    if (found and found.prompt) or not may_hide_text(data):
        return found
    with decoded(data, header, ext, settings.max_pixels) as image:
        hidden = hidden_texts(image)
    return _read(hidden, settings.max_pixels) or found


def _read(texts: dict[str, str], max_pixels: int) -> GenerationMetadata | None:
    with PIXEL_BUDGET.reserve(_PIXELS_A_LETTER * sum(map(len, texts.values())), max_pixels):
        return read_texts(texts)


def _smaller(data: bytes, ext: str, header: Header, settings: FetchConfig) -> Recoded:
    assert settings.image_size, "only where the config asks"
    enough = fitted(header.width, header.height, settings.image_size)
    if ext == "jpg" and header.memory_factor == 1 and orientation(data) == 1:
        with PIXEL_BUDGET.reserve(header.cost, settings.max_pixels), suppress(ValueError):  # then Pillow decides
            return recode_jpeg(data, enough, settings.quality)
    with decoded(data, header, ext, settings.max_pixels, enough) as image:
        picture = upright_rgb(image, orientation(data))
        smaller = recode(picture, settings.image_size, settings.quality)
        picture.close()
    return smaller


def _end(data: bytes, ext: str, header: Header, settings: FetchConfig) -> int:
    """Where an image without an end mark ends. Raises Rejected where it breaks off."""
    if ext != "jpg":
        raise Rejected(Reason.BROKEN_IMAGE, "the file breaks off before its end")
    with decoded(data, header, ext, settings.max_pixels, (1, 1)):  # some writers forget the mark and nothing else
        return len(data)


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
