"""Defective pictures and files: altered copies, damaged bytes, files that are not pictures."""

from __future__ import annotations

import io
import random

from PIL import Image

_JPEG_START, _WEBP_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00", b"WEBPVP8 "
PAGES = (
    "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n",
    "<html><head><title>Just a moment...</title></head><body>Checking your browser before access.</body></html>\n",
    '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\n',
    '{"error": "rate limit exceeded", "retry_after": 30}\n',
    "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>\n",
)


def altered(kind: str, picture: Image.Image, rng: random.Random) -> tuple[Image.Image, int]:
    """A near-duplicate's picture and the quality to save it at: resized, recompressed or lightly cropped."""
    width, height = picture.size
    if kind == "near_duplicate_resized":
        side = rng.choice((0.5, 0.625, 0.75, 1.25, 1.5, 2.0))
        return picture.resize((round(width * side), round(height * side)), Image.Resampling.LANCZOS), 92
    if kind == "near_duplicate_cropped":
        left, top, right, bottom = (rng.randint(1, max(1, width // 32)) for _ in range(4))
        return picture.crop((left, top, width - right, height - bottom)), 92
    return picture, rng.randint(40, 70)


def damaged(kind: str, data: bytes, picture: Image.Image, rng: random.Random) -> tuple[bytes, str | None]:
    """The bytes served instead of a file's own, and their content type (None: that of the extension)."""
    match kind:
        case "corrupt_file":
            return _corrupt(data, rng), None
        case "truncated_file":
            return data[: len(data) * rng.randint(20, 75) // 100], None
        case "mislabelled_file":
            return _mislabelled(picture, rng), None
        case "error_page":
            return rng.choice(PAGES).encode(), rng.choice((None, "text/html; charset=utf-8"))
    raise ValueError(f"kind is {kind!r}: not a kind of damaged file")


def _corrupt(data: bytes, rng: random.Random) -> bytes:
    """Garbage from the first byte on, garbage behind a valid signature, or a PNG with bytes of its pixels flipped."""
    how = rng.randrange(3)
    if how == 2 and (start := data.find(b"IDAT")) > 0:
        flipped = bytearray(data)
        for _ in range(64):
            flipped[rng.randrange(start + 8, len(data) - 20)] ^= rng.randint(1, 255)
        return bytes(flipped)
    garbage = rng.randbytes(len(data))
    if how == 0:
        return b"\0" + garbage
    if data.startswith(b"\x89PNG"):
        return data[:33] + garbage[33:]  # signature and header
    return (_JPEG_START if data.startswith(b"\xff\xd8") else data[:8] + _WEBP_START) + garbage


def _mislabelled(picture: Image.Image, rng: random.Random) -> bytes:
    """A real file of another kind under a picture's name."""
    kind = rng.choice(("GIF", "BMP", "TIFF", "svg", "pdf", "zip"))
    if kind == "svg":
        return (
            b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128"><circle cx="64" cy="64" r="40"/></svg>'
        )
    if kind == "pdf":
        return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + rng.randbytes(400)
    if kind == "zip":
        return b"PK\x03\x04\x14\0\0\0\x08\0" + rng.randbytes(400)
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
