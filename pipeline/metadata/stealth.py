"""Turns the lowest bits of a picture's channels into the text that some tools hide there ("stealth pnginfo").

NovelAI and extensions of the web UIs write it, so that it survives sites that strip chunks. Down the columns, left to
right: a mark of 15 letters, the text's length in bits as 32 bits, the text, gzipped or not.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.pipeline.images.container import PNG, segments

#: mark -> (the channels it lies in, whether the text is gzipped)
_MARKS = {
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
_MARK = 15
_HEAD = _MARK + 4  # bytes
_ROWS = 8  # of pixels: in their first column lies the first letter of the mark, which all marks share
_FIRST = next(iter(_MARKS))[0]


def may_hide_text(data: bytes) -> bool:
    """Whether a file's pixels are worth decoding for a hidden text: no more than the first rows of a PNG are unpacked.

    JPEG, and WebP without a lossless plane, keep no lowest bits.
    """
    if data.startswith(b"\xff\xd8"):
        return False
    if not data.startswith(PNG):
        return any(chunk.kind in (b"VP8L", b"ALPH", b"ANMF") for chunk in segments(data))
    if len(data) < 29 or data[25] not in (2, 6):  # Pillow makes RGB and RGBA of these colour types alone
        return False
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    if depth != 8 or data[28] or height < _ROWS:  # rare: 16 bits, interlaced
        return True
    channels = 3 if colours == 2 else 4
    column = _first_column(data, 1 + width * channels, channels)
    letters = [np.packbits(column[:, 3] & 1)[0]] if channels == 4 else []
    return _FIRST in (*letters, np.packbits(column[:, :3].ravel()[:8] & 1)[0])


def _first_column(data: bytes, stride: int, channels: int) -> npt.NDArray[np.uint8]:
    """The first pixels of the first rows of a PNG, [rows, channels]; black where its data end before.

    To the left of them is nothing, so that of every filter only what lies above counts.
    """
    inflate, rows = zlib.decompressobj(), b""
    try:
        for chunk in segments(data):
            if chunk.kind == b"IDAT" and len(rows) < _ROWS * stride:
                rows += inflate.decompress(data[chunk.body : chunk.body_end], _ROWS * stride - len(rows))
    except zlib.error:
        pass  # whoever decodes it will say so
    column = np.zeros((_ROWS, channels), np.uint8)
    for number in range(min(_ROWS, len(rows) // stride)):
        row = rows[number * stride : number * stride + 1 + channels]
        above = column[number - 1] if number else column[0]
        predicted = above if row[0] in (2, 4) else above // 2 if row[0] == 3 else np.uint8(0)
        column[number] = np.frombuffer(row, np.uint8, channels, 1) + predicted
    return column


def read_stealth(picture: Image.Image, most: int) -> bytes | None:
    """The hidden text of a decoded picture, cut to ``most`` bytes, or None. Unpacks no more than that."""
    for channels in ("A", "RGB"):
        if picture.mode not in ("RGBA", channels):
            continue
        head = _lowest_bits(picture, channels, _HEAD)
        where, packed = _MARKS.get(head[:_MARK], ("", False))
        if where != channels:
            continue
        size = int.from_bytes(head[_MARK:], "big") // 8
        text = _lowest_bits(picture, channels, _HEAD + min(size, most))[_HEAD:]
        try:
            return zlib.decompressobj(31).decompress(text, most) if packed else text
        except zlib.error:
            return None
    return None


def _lowest_bits(picture: Image.Image, channels: str, size: int) -> bytes:
    """The first ``size`` bytes, or as many as there are; only the columns that hold them are looked at."""
    columns = -(-size * 8 // (picture.height * len(channels)))
    strip = np.asarray(picture.crop((0, 0, min(columns, picture.width), picture.height)))
    values = strip[..., 3:] if channels == "A" else strip[..., :3]
    return np.packbits(values.swapaxes(0, 1) & 1).tobytes()[:size]
