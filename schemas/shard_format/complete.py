"""Files that lack only their end: every pixel is there, and every browser shows them.

Some writers leave out a JPEG's end mark, a PNG's last chunk, or count a WebP's bytes wrongly. Such a file is judged by
decoding: it counts as whole when the decoder gets every pixel from it, and as broken otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import simplejpeg

from surd.schemas.shard_format.container import PNG, Segment, image_end, segments

_JPEG_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_SEQUENTIAL, _PROGRESSIVE = (b"\xff\xc0", b"\xff\xc1"), b"\xff\xc2"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def lacks_only_its_end(data: bytes, parts: Iterable[Segment]) -> bool:
    """Whether a file of these parts without an end can be whole: nothing but pixels or the end itself is cut off."""
    if data.startswith(PNG):
        known = [*parts]
        rest = data[known[-1].end :] if known else b""
        cut_in_pixels = rest[4:8] == b"IDAT"
        return cut_in_pixels or (_PNG_END.startswith(rest) and any(part.kind == b"IDAT" for part in known))
    return data.startswith(b"\xff\xd8") or restate_size(data) is not data


def restate_size(data: bytes) -> bytes:
    """A WebP file of whole chunks whose header claims more bytes than there are, with their number; else ``data``."""
    if data[:4] != b"RIFF" or 8 + int.from_bytes(data[4:8], "little") <= len(data):
        return data
    end = max((part.end for part in segments(data)), default=0)
    if end != len(data):
        return data
    padding = bytes(len(data) % 2)  # of the last chunk
    return data[:4] + struct.pack("<I", len(data) + len(padding) - 8) + data[8:] + padding


def complete_jpeg(data: bytes) -> bytes:
    """A JPEG with its end mark, which decoders wait for; any other file as it is.

    A missing mark is added if every pixel is there. Raises ValueError if not: decoders would fill the rest with grey.
    Decodes such a file once, at an eighth of its size; ``data`` is to be bounded in pixels before.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(_JPEG_END):
        return data
    parts = [*segments(data, whole=True)]
    if image_end(data, parts) is not None:
        return data
    completed = data.rstrip(b"\0") + _JPEG_END
    try:
        if not _has_every_scan(data, parts):
            raise ValueError("scans are missing")
        colours = "CMYK" if simplejpeg.decode_jpeg_header(completed)[2] in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(completed, colours, min_width=1, min_height=1)  # raises on every warning of libjpeg
    except ValueError as error:
        raise ValueError(f"the file has no end mark and breaks off before its last pixel ({error})") from None
    return completed


def _has_every_scan(data: bytes, parts: Iterable[Segment]) -> bool:
    """Whether the scans give every coefficient of every component to its last bit; False for a rare coding."""
    precision: dict[int, list[int]] = {}  # component -> the lowest bit that was given of each coefficient
    progressive = False
    for part in parts:
        body = data[part.body : part.body_end]
        if part.kind in (*_SEQUENTIAL, _PROGRESSIVE) and len(body) >= 6 + 3 * body[5]:
            progressive = part.kind == _PROGRESSIVE
            precision = {body[6 + 3 * number]: [99] * 64 for number in range(body[5])}
        elif part.kind == _SCAN and body and len(body) == 4 + 2 * body[0]:
            first, last, bits = body[-3:] if progressive else (0, 63, 0)
            for component in body[1:-3:2]:
                if component in precision and first <= last < 64:
                    precision[component][first : last + 1] = [bits & 15] * (last + 1 - first)
    return bool(precision) and not any(any(bits) for bits in precision.values())
