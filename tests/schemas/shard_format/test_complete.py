"""A file that lacks only its end gives the picture that the whole file gives; one that lacks pixels gives none."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline.acquisition.inspect_image import inspect
from surd.pipeline.rejection import Rejected
from surd.pipeline.report.entries import thumbnail
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas import Reason
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.complete import complete_jpeg
from surd.schemas.shard_format.pixels import UNDECODABLE, to_rgb
from tests.pipeline.image_bytes import chunk, saved, text_chunk

SIZE = (64, 48)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    return Image.fromarray(values.squeeze(), mode)


JPEGS = {
    "sequential": saved(noise(), "JPEG"),
    "progressive": saved(noise(), "JPEG", progressive=True),
    "grey": saved(noise("L"), "JPEG"),
    "grey progressive": saved(noise("L"), "JPEG", progressive=True),
    "cmyk": saved(noise("CMYK"), "JPEG"),
    "cmyk progressive": saved(noise("CMYK"), "JPEG", progressive=True),
    "rgb": saved(noise(), "JPEG", keep_rgb=True),
    "restarts": saved(noise(), "JPEG", restart_marker_blocks=2),
    "optimised, no subsampling": saved(noise(), "JPEG", optimize=True, subsampling=0, quality=97),
    "black": saved(Image.new("RGB", SIZE), "JPEG"),
    "turbo": simplejpeg.encode_jpeg(np.asarray(noise()), 90),
}
ENDLESS = {name: data.removesuffix(b"\xff\xd9") for name, data in JPEGS.items()}


def kept(data: bytes) -> bool:
    """Whether fetch and decode keep a file."""
    try:
        facts, _ = inspect(data, FetchConfig())
        decode_miniature(data, facts.ext, SIZE, 36_000_000)
    except Rejected as rejected:
        assert rejected.reason is Reason.BROKEN_IMAGE and rejected.detail
        return False
    return True


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(1), bytes(5000)], ids=["", "half a mark", "a zero", "zeros"])
def test_a_jpeg_without_its_end_mark_is_kept_and_gives_the_same_picture(name, tail):
    data = ENDLESS[name] + tail
    assert kept(data)
    assert to_rgb(data).tobytes() == to_rgb(JPEGS[name]).tobytes()
    assert thumbnail(data, 32) == thumbnail(JPEGS[name], 32)
    smaller, _ = inspect(data, FetchConfig(image_size=32))
    assert (smaller.width, smaller.original_width) == (32, 64)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_whose_pixels_are_cut_off_is_broken_whatever_stands_behind_them(name):
    for tenths in range(1, 10):
        for tail in (b"", bytes(5000), b"\xff"):
            data = ENDLESS[name][: len(ENDLESS[name]) * tenths // 10] + tail
            assert not kept(data)
            with pytest.raises(UNDECODABLE):
                to_rgb(data)


def scans(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]


@pytest.mark.parametrize("name", ["progressive", "grey progressive", "cmyk progressive"])
def test_a_progressive_jpeg_that_lacks_whole_scans_is_broken_though_it_decodes(name):
    for start in scans(JPEGS[name])[1:]:
        data = JPEGS[name][:start]
        with Image.open(io.BytesIO(data + b"\xff\xd9")) as blurred:
            blurred.load()  # nothing is missing as far as the decoder can tell
        with pytest.raises(ValueError, match="scans are missing"):
            complete_jpeg(data)
        assert not kept(data)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_cut_anywhere_near_its_end_gives_the_whole_picture_or_none(name):
    whole = to_rgb(JPEGS[name]).tobytes()
    for cut in range(1, 60):
        try:
            picture = to_rgb(JPEGS[name][:-cut])
        except UNDECODABLE:
            continue
        assert picture.tobytes() == whole, cut


@pytest.mark.fuzz
@given(st.sampled_from(sorted(ENDLESS)), st.integers(0, 1 << 20), st.integers(0, 255), st.integers(0, 70))
def test_no_damage_makes_completing_a_jpeg_raise_anything_but_a_value_error(name, at, value, cut):
    data = bytearray(ENDLESS[name][: len(ENDLESS[name]) - cut])
    data[at % len(data)] = value
    with suppress(ValueError):
        complete_jpeg(bytes(data))


PNG_FILE = saved(noise(), "PNG")
ROWS = zlib.decompress(PNG_FILE[PNG_FILE.index(b"IDAT") + 4 : -16])


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_png_without_its_last_chunk_is_kept(cut):
    """Up to 12 bytes: the end itself; up to 16: also the checksum of the last pixels."""
    assert kept(PNG_FILE[:-cut])
    assert to_rgb(PNG_FILE[:-cut]).tobytes() == to_rgb(PNG_FILE).tobytes()


def test_flaws_of_a_png_that_change_no_pixel_lose_no_picture():
    start, pixels = PNG_FILE[:33], PNG_FILE[33:-12]
    damaged_text = text_chunk("parameters", "a fox")[:-4] + b"\0\0\0\0"
    for data in (
        start + damaged_text + pixels + PNG_FILE[-12:],
        start + pixels + text_chunk("parameters", "a fox"),
        PNG_FILE[:-4] + bytes(4),
        PNG_FILE + bytes(1000),
        start + chunk(b"IDAT", zlib.compress(ROWS)[:-4]) + PNG_FILE[-12:],
    ):
        assert kept(data)
        assert to_rgb(data).tobytes() == to_rgb(PNG_FILE).tobytes()


def test_a_png_that_lacks_pixels_or_is_cut_within_another_chunk_is_broken():
    start, pixels = PNG_FILE[:33], PNG_FILE[33:-12]
    long = text_chunk("parameters", "a fox" * 50)
    for data in (
        start + pixels + long[:-100],
        PNG_FILE[: len(PNG_FILE) * 9 // 10],
        start + chunk(b"IDAT", zlib.compress(ROWS[:-1])) + PNG_FILE[-12:],
        start + text_chunk("parameters", "a fox"),
        start,
        start[:8],
    ):
        assert not kept(data)


def webp(claimed: int, data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", claimed) + data[8:]


WEBPS = [saved(noise(), "WEBP"), saved(noise(), "WEBP", lossless=True), saved(noise("RGBA"), "WEBP")]


@pytest.mark.parametrize("data", WEBPS)
def test_a_webp_that_claims_more_bytes_than_there_are_is_kept_if_its_chunks_are_whole(data):
    for claimed in (len(data), len(data) - 7, len(data) + 5000, 2**32 - 10, 2**32 - 1):
        assert kept(webp(claimed, data))
        assert to_rgb(webp(claimed, data)).tobytes() == to_rgb(data).tobytes()
        assert not kept(webp(claimed, data)[:-9])


def test_a_webp_without_the_padding_of_its_last_chunk_is_kept():
    data = saved(noise(), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(7))
    assert int.from_bytes(data[data.index(b"EXIF") + 4 :][:4], "little") % 2 and data.endswith(bytes(7))
    assert kept(data[:-1]) and not kept(data[:-2])
    assert to_rgb(data[:-1]).tobytes() == to_rgb(data).tobytes()


def test_a_polyglot_behind_bytes_that_decoders_pass_over_is_still_seen():
    table = JPEGS["sequential"].index(b"\xff\xdb")
    data = JPEGS["sequential"][:table] + b"abc" + JPEGS["sequential"][table:]
    assert kept(data)
    with pytest.raises(Rejected) as rejected:
        inspect(data + b"PK\x03\x04rest", FetchConfig())
    assert rejected.value.reason is Reason.POLYGLOT
