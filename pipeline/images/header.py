"""Image headers: the size of the picture and the memory that decoding it takes, before any pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.shard_format.container import Segment, segments
from surd.schemas.shard_format.pixels import open_image

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_FRAMES = frozenset(bytes((0xFF, kind)) for kind in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC)))
# libwebp has a canvas of its own, a progressive JPEG holds all coefficients, and CMYK is converted into a second copy.
_WEBP, _PROGRESSIVE, _CMYK = 2, 1.5, 1.5


class Header(NamedTuple):
    """``memory_factor``: memory that decoding takes, in units of 8 bytes per pixel."""

    width: int
    height: int
    memory_factor: float = 1

    @property
    def cost(self) -> int:
        """Pixels weighted by memory: what the picture takes of the pixel budget."""
        return int(self.width * self.height * self.memory_factor)


def read_header(data: bytes, ext: str, parts: Iterable[Segment] | None = None) -> Header:
    """The header from a few bytes of the file, or by Pillow if those are not enough; Pillow's exceptions pass through.

    ``parts``: the segments of the file, if they are already known.
    """
    header = _png(data) if ext == "png" else _webp(data) if ext == "webp" else _jpeg(data, parts or segments(data))
    if header and header.width and header.height:
        return header
    with open_image(data, formats=(FORMATS[ext],)) as image:
        return header_of(image)


def header_of(image: Image.Image) -> Header:
    """The header of a file that Pillow has opened."""
    factor = _CMYK if image.mode == "CMYK" else _PROGRESSIVE if "progressive" in image.info else 1
    return Header(*image.size, _WEBP if image.format == "WEBP" else factor)


def _png(data: bytes) -> Header | None:
    valid = data[12:16] == b"IHDR" and data[29:33] == zlib.crc32(data[12:29]).to_bytes(4, "big")
    return Header(*struct.unpack_from(">II", data, 16)) if valid else None


def _jpeg(data: bytes, parts: Iterable[Segment]) -> Header | None:
    for part in parts:
        if part.kind in _FRAMES and part.body_end - part.body >= 6:
            height, width, channels = struct.unpack_from(">xHHB", data, part.body)
            progressive = part.kind in (b"\xff\xc2", b"\xff\xc6", b"\xff\xca")
            return Header(width, height, _PROGRESSIVE if progressive else _CMYK if channels == 4 else 1)
    return None


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        return None
    return Header(width, height, _WEBP)


def sniff(data: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by the first bytes. Raises Rejected on anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    start = data[:64].lstrip().lower()
    what = "HTML" if start.startswith((b"<!doctype", b"<html")) else "nothing" if not data else repr(data[:16])
    raise Rejected(Reason.NOT_AN_IMAGE, f"the bytes begin with {what}" if data else "the file is empty")
