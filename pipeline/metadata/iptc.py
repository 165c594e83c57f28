"""The caption in a JPEG's IPTC record, which macOS writes beside EXIF and XMP."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PHOTOSHOP = b"Photoshop 3.0\0"
_RECORD = 0x0404
_CAPTION = b"\x1c\x02\x78"  # dataset 2:120, Caption-Abstract
_MOST = 1000  # resources, and datasets of one


def iptc_caption(segment: bytes) -> bytes | None:
    """The caption in the body of a JPEG's APP13 segment, if it has one. Never raises."""
    if not segment.startswith(_PHOTOSHOP):
        return None
    for kind, record in _resources(segment):
        if kind == _RECORD:
            return _dataset(record)
    return None


def _resources(segment: bytes) -> Iterator[tuple[int, bytes]]:
    position = len(_PHOTOSHOP)
    for _ in range(_MOST):
        if segment[position : position + 4] != b"8BIM" or position + 12 > len(segment):
            return
        kind, name_length = struct.unpack_from(">HB", segment, position + 4)
        position += 6 + (name_length + 2) // 2 * 2  # the name and its length, padded to an even number
        if position + 4 > len(segment):
            return
        (length,) = struct.unpack_from(">I", segment, position)
        yield kind, segment[position + 4 : position + 4 + length]
        position += 4 + length + length % 2


def _dataset(record: bytes) -> bytes | None:
    position = 0
    for _ in range(_MOST):
        if position + 5 > len(record) or record[position] != 0x1C:
            return None
        (length,) = struct.unpack_from(">H", record, position + 3)
        body = position + 5
        if length & 0x8000:  # an extended dataset: the length of its length
            size = length & 0x7FFF
            length, body = int.from_bytes(record[body : body + min(size, 4)], "big"), body + size
        if record[position : position + 3] == _CAPTION:
            return record[body : body + length]
        position = body + length
    return None
