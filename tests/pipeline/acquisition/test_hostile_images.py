"""Files of any segments, texts and EXIF are kept or rejected, whatever is in them, in less than a second."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.acquisition.inspect_image import inspect, inspect_cheap
from surd.pipeline.metadata.stealth import may_hide_text
from surd.pipeline.metadata.texts import texts_of
from surd.pipeline.rejection import Rejected
from surd.pipeline.report.entries import thumbnail
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.exif import exif_texts, orientation
from surd.schemas.shard_format.pixels import UNDECODABLE, to_rgb
from tests.fuzz import FUZZED
from tests.pipeline.broken_files import noise
from tests.pipeline.image_bytes import chunk, saved, stealth

SETTINGS = FetchConfig(max_pixels=1_000_000)
SMALLER = FetchConfig(max_pixels=1_000_000, image_size=32)


def examine(data: bytes) -> None:
    """All that a build does with the bytes of a file."""
    for settings in (SETTINGS, SMALLER):
        with suppress(Rejected):
            inspect_cheap(data, settings, None)
        try:
            facts, kept = inspect(data, settings)
        except Rejected as rejected:
            assert len(rejected.detail) < 1000
            continue
        with suppress(Rejected):
            decode_miniature(kept, facts.ext, (facts.width, facts.height), settings.max_pixels)
        with suppress(*UNDECODABLE):
            assert to_rgb(kept).mode == "RGB"
        thumbnail(kept, 16)
    for text in texts_of(data).values():
        text.encode("utf-8")
    may_hide_text(data)
    assert 1 <= orientation(data) <= 8


EXIF = st.builds(
    lambda order, start, fields: order + struct.pack("<I" if order[:1] == b"I" else ">I", start) + b"".join(fields),
    st.sampled_from([b"II*\0", b"MM\0*", b"II\0\0", b"xx"]),
    st.sampled_from([0, 8, 9, 10, 26, 2**31, 2**32 - 1]),
    st.lists(
        st.one_of(
            st.builds(
                struct.pack,
                st.sampled_from(["<HHHII", ">HHHII"]),
                st.sampled_from([1, 2, 65535]),
                st.sampled_from([0x0112, 0x8769, 0x9286, 0x9C9C, 0x010E, 0]),
                st.sampled_from([1, 2, 3, 4, 7, 5, 99]),
                st.sampled_from([0, 1, 4, 30, 2**20, 2**32 - 1]),
                st.sampled_from([0, 1, 6, 8, 22, 0x06000000, 2**32 - 1]),
            ),
            st.binary(max_size=30),
            st.just(b"UNICODE\0" + "a fox\ud800".encode("utf-16-le", "surrogatepass")),
        ),
        max_size=6,
    ),
)
TEXTS = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(zlib.compress),
    st.binary(max_size=60).map(lambda text: zlib.compress(text)[:-3]),
    st.sampled_from(
        [
            b"Steps: 20, Sampler: Euler",
            b"a fox\nNegative prompt: blurry\nSteps: 20, Seed: " + b"9" * 5000,
            b'{"prompt": "\\ud800"}',
            b"[" * 3000,
            b'{"1": {"class_type": "CLIPTextEncode", "inputs": {"text": ["1", 0]}}}',
            "\ud800".encode("utf-8", "surrogatepass"),
            b"\xff\xfe\0\xd8",
            b"<exif:UserComment><rdf:Alt><rdf:li>&#x110000;&#xd800;</rdf:li>",
        ]
    ),
)
KEYWORDS = st.sampled_from(
    [b"parameters", b"prompt", b"workflow", b"Comment", b"XML:com.adobe.xmp", b"a" * 200, b"", b"\xff"]
)
PNG_CHUNKS = st.one_of(
    st.builds(lambda key, text: chunk(b"tEXt", key + b"\0" + text), KEYWORDS, TEXTS),
    st.builds(lambda key, text: chunk(b"zTXt", key + b"\0\0" + text), KEYWORDS, TEXTS),
    st.builds(
        lambda key, packed, text: chunk(b"iTXt", key + b"\0" + packed + text),
        KEYWORDS,
        st.sampled_from([b"", b"\0\0\0\0", b"\1\0\0\0", b"\1\0en"]),
        TEXTS,
    ),
    st.builds(chunk, st.just(b"eXIf"), EXIF),
    st.builds(
        chunk,
        st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"gAMA"]),
        st.binary(max_size=30),
    ),
    st.builds(
        lambda size, kind: struct.pack(">I", size) + kind,
        st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1]),
        st.sampled_from([b"tEXt", b"IDAT", b"IEND", b"\0\0\0\0"]),
    ),
)
JPEG_SEGMENTS = st.builds(
    lambda marker, body, lie: bytes((0xFF, marker)) + struct.pack(">H", max(0, min(65535, len(body) + 2 + lie))) + body,
    st.sampled_from(
        [0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xED, 0xEE, 0xFE, 0xFF, 0x00, 0x01]
    ),
    st.one_of(st.binary(max_size=40), EXIF.map(lambda block: b"Exif\0\0" + block), TEXTS),
    st.sampled_from([0, 0, 0, -2, -1, 1, 60_000]),
)
WEBP_CHUNKS = st.builds(
    lambda kind, body, lie: kind + struct.pack("<I", max(0, len(body) + lie)) + body + bytes(len(body) % 2),
    st.sampled_from([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP ", b"ICCP", b"JUNK"]),
    st.one_of(st.binary(max_size=40), EXIF, TEXTS),
    st.sampled_from([0, 0, 0, -1, 1, 2**31]),
)
PNG_FILE, HIDING = saved(noise("RGBA"), "PNG"), stealth(b"a fox\nSteps: 20")
JPEGS = [saved(noise(), "JPEG"), saved(noise("CMYK"), "JPEG", progressive=True), saved(noise("L"), "JPEG")]
WEBPS = [
    saved(noise(), "WEBP"),
    saved(noise("RGBA"), "WEBP", lossless=True),
    saved(noise(), "WEBP", save_all=True, append_images=[noise(seed=1)]),
]


@pytest.mark.fuzz
@FUZZED
@given(st.lists(PNG_CHUNKS, max_size=5), st.sampled_from([PNG_FILE, HIDING]), st.sampled_from([8, 33, -12, -3]))
def test_a_png_of_any_chunks(chunks, data, at):
    examine(data[:at] + b"".join(chunks) + data[at:])


@pytest.mark.fuzz
@FUZZED
@given(st.lists(JPEG_SEGMENTS, max_size=5), st.sampled_from(JPEGS), st.sampled_from([2, 20, -2, -40]))
def test_a_jpeg_of_any_segments(parts, data, at):
    examine(data[:at] + b"".join(parts) + data[at:])


@pytest.mark.fuzz
@FUZZED
@given(st.lists(WEBP_CHUNKS, max_size=5), st.sampled_from(WEBPS), st.booleans(), st.sampled_from([0, 0, 1, -8, 2**31]))
def test_a_webp_of_any_chunks(parts, data, first, lie):
    body = b"".join(parts)
    body = body + data[12:] if first else data[12:] + body
    examine(b"RIFF" + struct.pack("<I", max(0, 4 + len(body) + lie)) + b"WEBP" + body)


@pytest.mark.fuzz
@FUZZED
@given(st.sampled_from([PNG_FILE, HIDING, *JPEGS, *WEBPS]), st.data())
def test_a_picture_changed_and_cut_anywhere(data, draw):
    changed = bytearray(data[: draw.draw(st.integers(1, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    examine(bytes(changed))


@pytest.mark.fuzz
@FUZZED
@given(EXIF, st.integers(0, 100))
def test_an_exif_block_of_any_fields(block, most):
    assert all(len(value) <= most for value in exif_texts(block, most).values())
