"""The parts of a PNG, JPEG or WebP file: what is picture, what is text, where the file ends."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
#: JPEG segments that say nothing of the picture: APPn but JFIF and Adobe's (which names the colour space), comments.
_BESIDE = frozenset(bytes((0xFF, kind)) for kind in (*range(0xE1, 0xEE), 0xEF, 0xFE))
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
#: One that ends coded pixels: neither stuffing nor restart. A pattern that begins with one plain byte is found fastest.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class Chunk(NamedTuple):
    """``data[start:end]`` is the whole chunk, ``data[body:body_end]`` what it holds."""

    kind: bytes
    start: int
    body: int
    body_end: int
    end: int


def chunks(data: bytes, *, whole: bool = False) -> Iterator[Chunk]:
    """Every chunk up to the end of the image, as far as the lengths make sense; nothing of any other kind of file.

    The kind is the PNG's or WebP's four letters, or a JPEG's marker. A JPEG's scan is one chunk with its pixels; unless
    the ``whole`` file is asked for, what comes before the first scan is all, as nobody writes texts behind it.
    """
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data, whole)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return iter(())


def end_of(data: bytes, parts: Iterable[Chunk] | None = None) -> int | None:
    """Where the image ends and anything else begins; None when the file breaks off before.

    ``parts``: the chunks of the ``whole`` file, where they are known.
    """
    if data[:4] == b"RIFF":
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2 if 8 + size <= len(data) else None
    return next((chunk.end for chunk in parts or chunks(data, whole=True) if chunk.kind in (b"IEND", _END)), None)


def bare(data: bytes) -> bytes:
    """The same picture without texts, EXIF and profiles, so that no decoder is asked to unpack a stranger's."""
    kept, position = [], 0
    for chunk in chunks(data):
        if chunk.kind in _BESIDE or (len(chunk.kind) == 4 and data[0] == PNG[0] and chunk.kind not in _PIXELS):
            kept.append(data[position : chunk.start])
            position = chunk.end
    return b"".join((*kept, data[position:])) if kept else data


def _png(data: bytes) -> Iterator[Chunk]:
    position, kind = len(PNG), b""
    while position + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position, position + 12 + length
        if position > len(data):
            return
        yield Chunk(kind, start, start + 8, position - 4, position)


def _jpeg(data: bytes, whole: bool) -> Iterator[Chunk]:
    position, kind = 2, b""
    while position + 2 <= len(data) and kind != _END and data[position] == 0xFF:
        start, kind = position, data[position : position + 2]
        if kind == b"\xff\xff":  # fill
            position += 1
            continue
        position += 2
        if kind == _END:
            yield Chunk(kind, start, position, position, position)
            return
        body, position = position + 2, position + int.from_bytes(data[position : position + 2], "big")
        if position < body or position > len(data):
            return
        body_end = position
        if kind == _SCAN and not whole:
            return
        if kind == _SCAN:  # coded pixels follow, to the next marker
            marker = _MARKER.search(data, position)
            position = marker.start() if marker else len(data)
        yield Chunk(kind, start, body, body_end, position)


def _webp(data: bytes) -> Iterator[Chunk]:
    position = 12
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        start, position = position, position + 8 + length + length % 2
        if start + 8 + length > len(data):
            return
        yield Chunk(kind, start, start + 8, start + 8 + length, min(position, len(data)))
