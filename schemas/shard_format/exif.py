"""EXIF: the orientation of a picture and the few text fields about its making."""

from __future__ import annotations

import struct

from surd.schemas.shard_format.container import segments

ORIENTATION = 0x0112
_NAMES = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x9C9C: "XPComment",
    0x9286: "UserComment",
}
_EXIF_IFD = 0x8769
_MOST_FIELDS = 500  # of one directory; cameras write about 60
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # byte, ASCII, short, long, undefined: bytes of one value


def exif_block(data: bytes) -> bytes:
    """The first EXIF block of a PNG, JPEG or WebP file, without its prefix; empty if the file has none."""
    for part in segments(data):
        body = slice(part.body, part.body_end)
        if part.kind in (b"eXIf", b"EXIF") or (part.kind == b"\xff\xe1" and data.startswith(b"Exif\0\0", part.body)):
            return data[body].removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    return b""


def orientation(data: bytes) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 (upright) if it is missing or invalid."""
    block = exif_block(data)
    order = _order(block)
    value = _directory(block, order, _first(block, order), {ORIENTATION}).get(ORIENTATION, b"")
    number = int.from_bytes(value, "little" if order == "<" else "big")
    return number if 1 <= number <= 8 else 1


def exif_texts(block: bytes, most: int) -> dict[str, bytes]:
    """Named fields of an EXIF block, each cut to ``most`` bytes. Malformed fields are left out; never raises."""
    order = _order(block)
    fields = _directory(block, order, _first(block, order), {*_NAMES, _EXIF_IFD}, most)
    if len(pointer := fields.pop(_EXIF_IFD, b"")) == 4:
        fields |= _directory(block, order, int(struct.unpack(f"{order}I", pointer)[0]), set(_NAMES), most)
    return {_NAMES[tag]: value for tag, value in fields.items()}


def _order(block: bytes) -> str:
    return ">" if block.startswith(b"MM") else "<"


def _first(block: bytes, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", block, 4)[0]) if len(block) >= 8 else 0


def _directory(block: bytes, order: str, start: int, tags: set[int], most: int = 4) -> dict[int, bytes]:
    """The values of ``tags`` in the directory at ``start``, by tag."""
    fields: dict[int, bytes] = {}
    if not 8 <= start <= len(block) - 2:
        return fields
    (count,) = struct.unpack_from(f"{order}H", block, start)
    last = min(start + 2 + 12 * min(count, _MOST_FIELDS), len(block) - 11)
    for position in range(start + 2, last, 12):
        tag, kind, values, offset = struct.unpack_from(f"{order}HHII", block, position)
        if tag in tags and kind in _SIZES and tag not in fields:
            size = values * _SIZES[kind]
            at = offset if size > 4 else position + 8
            if size and at + size <= len(block):
                fields[tag] = block[at : at + min(size, most)]
    return fields
