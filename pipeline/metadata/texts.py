"""The named texts in an image file: PNG text chunks, EXIF fields, JPEG comments, XMP."""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Iterator

from surd.pipeline.metadata.iptc import iptc_caption
from surd.schemas.shard_format.container import Segment, segments
from surd.schemas.shard_format.exif import exif_block, exif_texts

#: Unpacked bytes of all texts of a file together; the longest real workflow seen is under 1 MB.
MAX_TEXT = 4_000_000
_MOST_TEXTS = 200
_MOST_UNPACKED = 4 * MAX_TEXT
_STEP = 1_000_000  # bytes unpacked at once
_MOST_RATIO = 1032  # of what deflate gives to what it takes
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"  # of a JPEG's segment
#: Names of texts that hold a description as macOS writes it, for ``descriptions.py`` alone.
CAPTIONS = ("XMP description", "IPTC caption")
_XMP_DESCRIPTION = re.compile(r"<dc:description>.{0,200}?<rdf:li[^<>]{0,100}>([^<]*)</rdf:li>", re.DOTALL)
_XMP_COMMENT = re.compile(r"<exif:UserComment>.{0,200}?<rdf:li[^<>]{0,100}>([^<]*)</rdf:li>", re.DOTALL)


def texts_of(data: bytes) -> dict[str, str]:
    """Every named text of a PNG, JPEG or WebP file; of several with one name the last. Raises TooComplex.

    They are cut at ``MAX_TEXT`` bytes in total, so that no compressed text unpacks to more.
    """
    texts: dict[str, str] = {}
    remaining = MAX_TEXT
    for name, value in _raw_texts(data):
        texts[name] = _user_comment(value[:remaining]) if name == "UserComment" else decode_text(value[:remaining])
        remaining -= len(value)
        if remaining <= 0 or len(texts) == _MOST_TEXTS:
            break
    if xmp := texts.pop("XML:com.adobe.xmp", None):
        for comment in _XMP_COMMENT.findall(xmp[:MAX_TEXT]):
            texts.setdefault("XMP", html.unescape(comment))
        if description := _XMP_DESCRIPTION.search(xmp[:MAX_TEXT]):
            texts.setdefault(CAPTIONS[0], html.unescape(description[1]))
    return texts


def decode_text(data: bytes) -> str:
    """UTF-8, UTF-16 or latin-1: PNG and EXIF specify latin-1 or ASCII, but most tools write UTF-8 and some UTF-16."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _plain(data.decode("utf-16", "replace"))
    try:
        return _plain(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _plain(data.decode("latin-1"))


def _raw_texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    unpacker = _Unpacker()
    for segment in segments(data):
        if segment.kind in (b"tEXt", b"zTXt", b"iTXt"):
            yield from _png_text(data, segment, unpacker)
        elif segment.kind == b"\xff\xfe":
            yield "comment", data[segment.body : segment.body_end]
        elif segment.kind == b"XMP ":
            yield "XML:com.adobe.xmp", data[segment.body : segment.body_end]
        elif segment.kind == b"\xff\xe1" and data.startswith(_XMP_HEADER, segment.body):
            yield "XML:com.adobe.xmp", data[segment.body + len(_XMP_HEADER) : segment.body_end]
        elif segment.kind == b"\xff\xed" and (caption := iptc_caption(data[segment.body : segment.body_end])):
            yield CAPTIONS[1], caption
    for name, value in exif_texts(exif_block(data), MAX_TEXT).items():
        yield name, _from_windows(value) if name == "XPComment" else value


class _Unpacker:
    """Unpacks the compressed texts of one file, within a budget that those which fail draw on too: 2,000 texts of
    4 MB, each with a wrong checksum, took 20 s."""

    def __init__(self) -> None:
        self._left = _MOST_UNPACKED

    def unpack(self, packed: bytes) -> bytes | None:
        """The text, cut to ``MAX_TEXT`` bytes; None if it does not unpack, or the budget is spent."""
        inflate, pieces, size = zlib.decompressobj(), list[bytes](), 0
        while packed and size < MAX_TEXT:
            if self._left <= 0:
                return None
            most = min(_STEP, MAX_TEXT - size)
            try:
                piece = inflate.decompress(packed, most)
            except zlib.error:
                self._left -= min(most, _MOST_RATIO * len(packed))
                return None
            self._left -= len(piece)
            pieces.append(piece)
            size, packed = size + len(piece), inflate.unconsumed_tail
        return b"".join(pieces)


def _png_text(data: bytes, chunk: Segment, unpacker: _Unpacker) -> Iterator[tuple[str, bytes]]:
    """Keyword and text of a tEXt, zTXt or iTXt chunk; left out if it does not unpack."""
    keyword, _, rest = data[chunk.body : chunk.body_end].partition(b"\0")
    packed = chunk.kind == b"zTXt" or (chunk.kind == b"iTXt" and rest[:1] == b"\1")
    if chunk.kind == b"zTXt":
        rest = rest[1:]
    elif chunk.kind == b"iTXt":
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    text = unpacker.unpack(rest) if packed else rest
    if text is not None:
        yield decode_text(keyword[:100]), text


def _user_comment(value: bytes) -> str:
    """An EXIF UserComment, with or without the eight bytes that name its encoding."""
    prefix, body = value[:8], value[8:]
    if prefix == b"UNICODE\0":
        return _utf16(body)
    return decode_text(body if prefix in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0" * 8) else value)


def _utf16(data: bytes) -> str:
    # The byte order may be the file's, the writer's or neither: the reading with more ASCII letters is the right one.
    both = [data.decode(encoding, "replace") for encoding in ("utf-16-be", "utf-16-le")]
    return _plain(max(both, key=lambda text: len(text.encode("ascii", "ignore")) - text.count("\0")))


def _from_windows(value: bytes) -> bytes:
    """Windows writes its own fields in UTF-16, little-endian."""
    return value.decode("utf-16-le", "replace").encode("utf-8")


def _plain(text: str) -> str:
    return text.replace("\0", "").removeprefix("\ufeff").encode("utf-8", "replace").decode("utf-8")
