"""Image files put together byte by byte, with texts wherever a tool may write them."""

from __future__ import annotations

import gzip
import io
import struct
import zlib

import numpy as np
from PIL import Image

USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int = 1, height: int = 1) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def png(*chunks: bytes, late: bool = False) -> bytes:
    """A 1x1 PNG with these chunks before or after its pixels."""
    pixels, end, extra = chunk(b"IDAT", zlib.compress(b"\0\0")), chunk(b"IEND", b""), b"".join(chunks)
    return b"\x89PNG\r\n\x1a\n" + header() + (pixels + extra if late else extra + pixels) + end


def text_chunk(keyword: str, text: str | bytes) -> bytes:
    return chunk(b"tEXt", keyword.encode() + b"\0" + (text.encode() if isinstance(text, str) else text))


def tool_chunk(keyword: str, text: str) -> bytes:
    """A text as nearly every tool writes it, by Pillow: tEXt in latin-1, iTXt where that does not do."""
    try:
        return text_chunk(keyword, text.encode("latin-1"))
    except UnicodeEncodeError:
        return chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode())


def packed_chunk(keyword: str, text: str) -> bytes:
    """An iTXt chunk, compressed."""
    return chunk(b"iTXt", keyword.encode() + b"\0\1\0\0\0" + zlib.compress(text.encode()))


def with_exif(format_: str, tag: int, value: bytes | str, order: str = ">", **options: bytes) -> bytes:
    """An 8x8 picture with this EXIF field, typed as tools type it (Pillow calls every run of bytes BYTE)."""
    body = value.encode() + b"\0" if isinstance(value, str) else value
    first, pointer = 8, 8 + 2 + 12 + 4
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, first)
    if tag == USER_COMMENT:
        directory = struct.pack(f"{order}HHHIII", 1, _EXIF_IFD, 4, 1, pointer, 0)
        directory += struct.pack(f"{order}HHHIII", 1, tag, 7, len(body), pointer + 18, 0)
    else:
        directory = struct.pack(f"{order}HHHIII", 1, tag, 2, len(body), pointer, 0)
    return saved(Image.new("RGB", (8, 8)), format_, exif=b"Exif\0\0" + head + directory + body, **options)


def saved(picture: Image.Image, format_: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def stealth(
    text: bytes, mode: str = "RGBA", *, packed: bool = True, format_: str = "PNG", height: int = 64, **options
) -> bytes:
    """A picture with this text in the lowest bits of its alpha (RGBA) or colours (RGB), down the columns."""
    payload = gzip.compress(text, mtime=0) if packed else text
    mark = f"stealth_{'png' if mode == 'RGBA' else 'rgb'}{'comp' if packed else 'info'}".encode()
    bits = np.unpackbits(np.frombuffer(mark + struct.pack(">I", 8 * len(payload)) + payload, np.uint8))
    channels = 1 if mode == "RGBA" else 3
    width = -(-len(bits) // (height * channels))
    lowest = np.pad(bits, (0, width * height * channels - len(bits))).reshape(width, height, channels)
    values = np.full((height, width, len(mode)), 0xFE, np.uint8)
    values[..., -channels:] |= lowest.swapaxes(0, 1)
    return saved(Image.fromarray(values, mode), format_, **options)
