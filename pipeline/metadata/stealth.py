"""Text hidden in the lowest bits of a picture's channels ("stealth pnginfo").

NovelAI and extensions of the web UIs write it, so that it survives sites that strip chunks. Down the columns, left to
right: a marker of 15 letters, the length of the text in bits as 32 bits, the text, gzipped or not.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.schemas.shard_format.container import PNG, segments

#: marker -> (the channels that hold it, whether the text is gzipped)
_MARKERS = {
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
_MARKER = 15
_HEAD = _MARKER + 4  # bytes
_ROWS = 8  # of pixels: their first column holds the first letter of the marker, the same in all markers
_FIRST = next(iter(_MARKERS))[0]


def may_hide_text(data: bytes) -> bool:
    """Whether a file's pixels are worth decoding for a hidden text: only the first rows of a PNG are unpacked.

    JPEG, and WebP without a lossless plane, do not preserve the lowest bits.
    """
    if data.startswith(b"\xff\xd8"):
        return False
    if not data.startswith(PNG):
        return any(chunk.kind in (b"VP8L", b"ALPH", b"ANMF") for chunk in segments(data))
    if len(data) < 29 or data[25] not in (2, 6):  # the only colour types that Pillow opens as RGB or RGBA
        return False
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    if depth != 8 or data[28] or height < _ROWS:  # rare: 16 bits, interlaced
        return True
    channels = 3 if colours == 2 else 4
    column = _first_column(data, 1 + width * channels, channels)
    letters = [np.packbits(column[:, 3] & 1)[0]] if channels == 4 else []
    return _FIRST in (*letters, np.packbits(column[:, :3].ravel()[:8] & 1)[0])


def _first_column(data: bytes, stride: int, channels: int) -> npt.NDArray[np.uint8]:
    """The first pixels of the first rows of a PNG, [rows, channels]; black where its data end too early.

    There is nothing to their left, so every filter depends on the pixel above only.
    """
    inflate, rows = zlib.decompressobj(), bytearray()
    try:
        for chunk in segments(data):
            if chunk.kind == b"IDAT" and len(rows) < _ROWS * stride:
                rows += inflate.decompress(data[chunk.body : chunk.body_end], _ROWS * stride - len(rows))
    except zlib.error:
        pass  # reported when the file is decoded
    column = np.zeros((_ROWS, channels), np.uint8)
    for y in range(min(_ROWS, len(rows) // stride)):
        row = rows[y * stride : y * stride + 1 + channels]
        above = column[y - 1] if y else column[0]
        predicted = above if row[0] in (2, 4) else above // 2 if row[0] == 3 else np.uint8(0)
        column[y] = np.frombuffer(row, np.uint8, channels, 1) + predicted
    return column


def read_stealth(picture: Image.Image, most: int) -> bytes | None:
    """The hidden text of a decoded picture, cut to ``most`` bytes, or None. Unpacks no more than that."""
    for channels in ("A", "RGB"):
        if picture.mode not in ("RGBA", channels):
            continue
        head = _lowest_bits(picture, channels, _HEAD)
        marked, packed = _MARKERS.get(head[:_MARKER], ("", False))
        if marked != channels:
            continue
        size = int.from_bytes(head[_MARKER:], "big") // 8
        text = _lowest_bits(picture, channels, _HEAD + min(size, most))[_HEAD:]
        try:
            return zlib.decompressobj(31).decompress(text, most) if packed else text
        except zlib.error:
            return None
    return None


def _lowest_bits(picture: Image.Image, channels: str, size: int) -> bytes:
    """The first ``size`` bytes, or fewer if the picture is smaller; reads only the columns that hold them."""
    columns = -(-size * 8 // (picture.height * len(channels)))
    strip = np.asarray(picture.crop((0, 0, min(columns, picture.width), picture.height)))
    values = strip[..., 3:] if channels == "A" else strip[..., :3]
    return np.packbits(values.swapaxes(0, 1) & 1).tobytes()[:size]
