"""Turns the lowest bits of a picture's channels into the text that some tools hide there ("stealth pnginfo").

NovelAI and extensions of the web UIs write it, so that it survives sites that strip chunks. Down the columns, left to
right: a mark of 15 letters, the text's length in bits as 32 bits, the text, gzipped or not.
"""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image

#: mark -> (the channels it lies in, whether the text is gzipped)
_MARKS = {
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
_MARK = 15
_HEAD = _MARK + 4  # bytes


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
