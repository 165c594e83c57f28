"""Container formats: the segments of JPEG and the chunks of PNG and WebP files, and where the image ends."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
#: JPEG segments without effect on the picture: comments, APPn except JFIF and Adobe's (which names the colour space).
_METADATA = frozenset(bytes((0xFF, kind)) for kind in (*range(0xE1, 0xEE), 0xEF, 0xFE))
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
#: A marker that ends coded pixels: neither stuffing nor restart. Patterns that begin with one plain byte are fastest.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_NEXT = re.compile(rb"\xff[^\x00\xff]")
_BARE = frozenset(bytes((0xFF, kind)) for kind in (0x01, *range(0xD0, 0xD8)))  # markers without a length or body


#: Budgets of work a file: a reader takes a step and an object a segment, and a decoder passes over all pixels a scan.
#: Cameras and tools write up to some thousand chunks and 20 scans. A JPEG of 20 MB of empty comments took 96 s and
#: 1.3 GB, and 800 scans in 119 kB took 18 s instead of 0.1 s.
MAX_SEGMENTS = 1 << 16
MAX_STRAY = 1 << 16  # bytes between the segments of a JPEG, which decoders pass over one by one
MAX_SCANS = 64


class TooComplex(ValueError):
    """The file goes beyond a budget of work."""


class Segment(NamedTuple):
    """A JPEG segment, or a PNG or WebP chunk: ``data[start:end]``; its content is ``data[body:body_end]``."""

    kind: bytes
    start: int
    body: int
    body_end: int
    end: int


def segments(data: bytes, *, whole: bool = False) -> Iterator[Segment]:
    """The segments up to the end of the image, as far as their lengths are valid; empty for any other kind of file.

    The kind is the PNG's or WebP's four letters, or a JPEG's marker. A JPEG's scan is one segment with its pixels;
    unless ``whole`` is set, a JPEG is read up to its first scan only, as no tool writes texts after it. Raises
    TooComplex, when it comes to it, on more than MAX_SEGMENTS, MAX_STRAY or MAX_SCANS.
    """
    if data.startswith(PNG):
        return _bounded(_png(data))
    if data.startswith(b"\xff\xd8\xff"):
        return _bounded(_jpeg(data, whole))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _bounded(_webp(data))
    return iter(())


def _bounded(parts: Iterator[Segment]) -> Iterator[Segment]:
    for number, part in enumerate(parts):
        if number == MAX_SEGMENTS:
            raise TooComplex(f"it has more than {MAX_SEGMENTS:,} segments")
        yield part


def image_end(data: bytes, parts: Iterable[Segment] | None = None) -> int | None:
    """Where the image ends and anything else begins; None if the file is truncated.

    ``parts``: the segments of the ``whole`` file, if they are already known.
    """
    if data[:4] == b"RIFF":
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2 if 8 + size <= len(data) else None
    return next((part.end for part in parts or segments(data, whole=True) if part.kind in (b"IEND", _END)), None)


def strip_metadata(data: bytes) -> bytes:
    """The same picture without texts, EXIF and profiles, so that no decoder unpacks untrusted ones."""
    pieces, position = [], 0
    for segment in segments(data):
        if segment.kind in _METADATA or (len(segment.kind) == 4 and data[0] == PNG[0] and segment.kind not in _PIXELS):
            pieces.append(data[position : segment.start])
            position = segment.end
    return b"".join((*pieces, data[position:])) if pieces else data


def _png(data: bytes) -> Iterator[Segment]:
    position, kind = len(PNG), b""
    while position + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position, position + 12 + length
        if position > len(data):
            return
        yield Segment(kind, start, start + 8, position - 4, position)


def _jpeg(data: bytes, whole: bool) -> Iterator[Segment]:
    position, kind = 2, b""
    stray = scans = 0
    while (marker := _NEXT.search(data, position)) and kind != _END:  # decoders pass over what is between segments too
        stray += marker.start() - position
        start, position = marker.span()
        kind = data[start:position]
        stray += 2 * (kind in _BARE)
        if stray > MAX_STRAY:
            raise TooComplex(f"it has more than {MAX_STRAY:,} bytes between its segments")
        if kind in _BARE:
            continue
        if kind == _END:
            yield Segment(kind, start, position, position, position)
            return
        body, position = position + 2, position + int.from_bytes(data[position : position + 2], "big")
        if position < body or position > len(data):
            return
        body_end = position
        if kind == _SCAN and not whole:
            return
        if kind == _SCAN:  # coded pixels follow, to the next marker
            scans += 1
            if scans > MAX_SCANS:
                raise TooComplex(f"it has more than {MAX_SCANS} scans")
            marker = _MARKER.search(data, position)
            position = marker.start() if marker else len(data)
        yield Segment(kind, start, body, body_end, position)


def _webp(data: bytes) -> Iterator[Segment]:
    position = 12
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        start, position = position, position + 8 + length + length % 2
        if start + 8 + length > len(data):
            return
        yield Segment(kind, start, start + 8, start + 8 + length, min(position, len(data)))
