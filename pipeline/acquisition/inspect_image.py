"""Inspection of a downloaded file: format, size, generation metadata, and whether it is one whole image and no more."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace

from surd.pipeline import untrusted_json
from surd.pipeline.images.header import Header, read_header, sniff
from surd.pipeline.images.resize import Recoded, fitted, recode, recode_jpeg
from surd.pipeline.images.safe_decode import PIXEL_BUDGET, check_aspect, check_size, decoded, rejecting_decode_errors
from surd.pipeline.metadata.reader import GenerationMetadata, hidden_texts, read_texts
from surd.pipeline.metadata.stealth import may_hide_text
from surd.pipeline.metadata.texts import texts_of
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.complete import lacks_only_its_end
from surd.schemas.shard_format.container import Segment, image_end, segments
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import SWAPS_AXES, upright_rgb

#: The first bytes of files that could be hidden behind an image: archives, programs, documents, pages.
_MAGIC_BYTES = (
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
_CHEAP = 1_000_000  # bytes
#: Segments that hold text, EXIF, or pixels which may hide a text that only decoding finds.
_METADATA = {
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"eXIf",
    b"EXIF",
    b"XMP ",
    b"VP8L",
    b"ALPH",
    b"ANMF",
    b"\xff\xe1",
    b"\xff\xed",
    b"\xff\xfe",
}
_PIXELS_A_LETTER = 9  # memory that parsing a text may take per letter, in pixels of 8 bytes


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Columns of a pair that inspection fills. ``width`` and ``height``: of the upright picture.

    ``detail`` says why the file has no prompt, where its metadata tells. The ``original_`` columns are those of the
    file before it was made smaller, None if it was not.
    """

    sha256: str
    ext: str
    size: int
    width: int
    height: int
    detail: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    tool: str | None = None
    params: str | None = None
    models: list[str] | None = None
    loras: list[str] | None = None
    original_sha256: str | None = None
    original_width: int | None = None
    original_height: int | None = None


def inspect(data: bytes, settings: FetchConfig, sha256: str | None = None) -> tuple[ImageFacts, bytes]:
    """The facts about a file: sniffed, bounded by the header, checked as far as its structure tells, metadata read; and
    the bytes to keep, which are the same or, with ``fetch.image_size``, a smaller JPEG.

    Pixels are decoded only if necessary: to make the image smaller, to find a text hidden in the pixels, and to see
    whether a file without its end is complete. The stage decode proves that all others decode. ``sha256``: of the
    bytes, if it is known. Raises Rejected.
    """
    ext = sniff(data)
    return _inspect(data, ext, _parts(data), settings, sha256)


def inspect_cheap(data: bytes, settings: FetchConfig, sha256: str | None) -> tuple[ImageFacts, bytes] | None:
    """The same if it takes a fraction of a millisecond, else None: of files that are not large and have no text to
    read, nothing to decompress and nothing to decode."""
    if len(data) > _CHEAP or settings.image_size:
        return None
    ext = sniff(data)
    parts = _parts(data)
    is_cheap = image_end(data, parts) is not None and _METADATA.isdisjoint([part.kind for part in parts])
    return _inspect(data, ext, parts, settings, sha256) if is_cheap else None


def _parts(data: bytes) -> list[Segment]:
    with rejecting_decode_errors():
        return [*segments(data, whole=True)]


def _inspect(
    data: bytes, ext: str, parts: list[Segment], settings: FetchConfig, sha256: str | None
) -> tuple[ImageFacts, bytes]:
    has_metadata = not _METADATA.isdisjoint([part.kind for part in parts])
    with rejecting_decode_errors():
        header = read_header(data, ext, parts)
        check_size(header, settings.max_pixels)
        check_aspect(header, settings.max_aspect)
        metadata = _metadata(data, ext, header, settings) if has_metadata or may_hide_text(data) else None
        smaller = _smaller(data, ext, header, settings) if settings.image_size else None
        end = image_end(data, parts) or _end(data, ext, parts, header, settings)
    if other := other_file(data[end:]):
        raise Rejected(Reason.POLYGLOT, f"behind the end of the image begins {other}")
    turned = has_metadata and orientation(data) in SWAPS_AXES
    facts = ImageFacts(
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        ext=ext,
        size=len(data),
        width=header.height if turned else header.width,
        height=header.width if turned else header.height,
        detail=metadata.reason if metadata and not metadata.prompt else None,
        prompt=metadata.prompt if metadata else None,
        negative_prompt=metadata.negative_prompt if metadata else None,
        tool=metadata.tool if metadata else None,
        params=untrusted_json.dump(metadata.params) if metadata and metadata.params else None,
        models=metadata.models if metadata else None,
        loras=metadata.loras if metadata else None,
    )
    return (facts, data) if smaller is None else (_resized(facts, smaller), smaller.data)


def _resized(facts: ImageFacts, smaller: Recoded) -> ImageFacts:
    return replace(
        facts,
        original_sha256=facts.sha256,
        original_width=facts.width,
        original_height=facts.height,
        **smaller.columns(),
    )


def _metadata(data: bytes, ext: str, header: Header, settings: FetchConfig) -> GenerationMetadata | None:
    """Generation metadata from the texts of a file or, if these have no prompt, from its pixels."""
    metadata = _read(texts_of(data), settings.max_pixels)
    if (metadata and metadata.prompt) or not may_hide_text(data):
        return metadata
    with decoded(data, header, ext, settings.max_pixels) as image:
        hidden = hidden_texts(image)
    return _read(hidden, settings.max_pixels) or metadata


def _read(texts: dict[str, str], max_pixels: int) -> GenerationMetadata | None:
    with PIXEL_BUDGET.reserve(_PIXELS_A_LETTER * sum(map(len, texts.values())), max_pixels):
        return read_texts(texts)


def _smaller(data: bytes, ext: str, header: Header, settings: FetchConfig) -> Recoded:
    assert settings.image_size, "called only with fetch.image_size"
    size = fitted(header.width, header.height, settings.image_size)
    if ext == "jpg" and header.memory_factor == 1 and orientation(data) == 1:
        with PIXEL_BUDGET.reserve(header.cost, settings.max_pixels), suppress(ValueError):  # then Pillow decides
            return recode_jpeg(data, size, settings.quality)
    with decoded(data, header, ext, settings.max_pixels, size) as image:
        picture = upright_rgb(image, orientation(data))
        smaller = recode(picture, settings.image_size, settings.quality)
        picture.close()
    return smaller


def _end(data: bytes, ext: str, parts: list[Segment], header: Header, settings: FetchConfig) -> int:
    """The end of an image without an end mark, which is judged by decoding. Raises Rejected if it is incomplete."""
    if not lacks_only_its_end(data, parts):
        raise Rejected(Reason.BROKEN_IMAGE, "the file breaks off before its end")
    with decoded(data, header, ext, settings.max_pixels, (1, 1)):
        return len(data)


def other_file(tail: bytes) -> str | None:
    """The other file behind the end of an image, by its first bytes, or a ZIP by its last; None if there is none.

    Padding, thumbnails and text that cameras and tools append do not count.
    """
    start = tail[:1024].lstrip(b"\0 \r\n\t")
    if magic := next((magic for magic in _MAGIC_BYTES if start.lower().startswith(magic.lower())), None):
        return repr(magic.decode("latin-1"))
    position = tail.rfind(_ZIP_END, -65_557)
    if position >= 0 and position + 22 + int.from_bytes(tail[position + 20 : position + 22], "little") == len(tail):
        return "a ZIP"
    return None
