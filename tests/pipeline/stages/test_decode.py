"""decode proves that what fetch kept are pictures to their end; whatever is none becomes a row with a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline.build.folder import Build, part_miniatures
from surd.pipeline.deduplication.registration import miniature
from surd.pipeline.images.header import read_header
from surd.pipeline.metadata.stealth import may_hide_text
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas import Reason
from surd.schemas.shard_format.pixels import to_rgb
from tests.pipeline.fetching import decodings, from_folder, picture, reasons
from tests.pipeline.image_bytes import chunk, header, png, saved, stealth


def gradient(size: tuple[int, int], **options) -> bytes:
    """A smooth JPEG."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return saved(Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8)), "JPEG", **options)


def scrambled(data: bytes) -> bytes:
    """The same file with other pixel data: its structure is whole, and nothing in it decodes."""
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, start - 8)
    return data[:start] + chunk(b"IDAT", bytes(length))[4 + 4 :] + data[start + length + 4 :]


def test_what_is_whole_by_its_structure_and_does_not_decode_is_broken(tmp_path):
    files = {
        "sound.png": picture(size=(64, 64)),
        "scrambled.png": scrambled(picture(size=(64, 64))),
        "crc.png": b"".join((picture()[:60], b"\0\0", picture()[62:])),
        "few.png": png()[:33] + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""),
    }
    fetched = from_folder(tmp_path, files)
    assert set(reasons(fetched).values()) == {None}
    rows = decodings(tmp_path)
    broken = {name: Reason.BROKEN_IMAGE for name in files if name != "sound.png"}
    assert reasons(rows) == {"sound.png": None} | broken
    assert {row.rejected_by for row in rows.values()} == {None, "decode"}


def test_a_picture_of_another_size_than_its_first_header_says_is_broken(tmp_path):
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0" * 1))
    two = b"\x89PNG\r\n\x1a\n" + header(2, 2) + header(1, 1) + pixels + chunk(b"IEND", b"")
    assert reasons(from_folder(tmp_path, {"two.png": two})) == {"two.png": None}
    assert decodings(tmp_path)["two.png"].reason is Reason.BROKEN_IMAGE


def test_miniatures_lie_in_the_order_of_the_rows_black_where_there_is_no_picture(tmp_path):
    files = {
        "a.png": picture(size=(80, 80)),
        "b.png": scrambled(picture()),
        "c.txt": b"words",
        "d.png": picture(seed=3),
    }
    from_folder(tmp_path, files)
    rows = decodings(tmp_path)
    assert reasons(rows) == {
        "a.png": None, "b.png": Reason.BROKEN_IMAGE, "c.txt": Reason.NOT_AN_IMAGE, "d.png": None,
    }  # fmt: skip
    assert rows["c.txt"].rejected_by == "fetch"
    array = Build(str(tmp_path / "build")).read_bytes(part_miniatures(0))
    minis = np.load(io.BytesIO(array), allow_pickle=False)
    assert minis.shape == (4, 32, 32, 3) and not minis[1].any() and not minis[2].any()
    assert (minis[0] == miniature(to_rgb(files["a.png"]))).all()


def test_decoding_twice_gives_the_same_rows_and_bytes(tmp_path):
    from_folder(tmp_path, {"a.png": picture(), "b.jpg": picture("JPEG"), "c.webp": picture("WEBP")})
    build = Build(str(tmp_path / "build"))
    first, before = decodings(tmp_path), build.read_bytes(part_miniatures(0))
    assert decodings(tmp_path) == first and build.read_bytes(part_miniatures(0)) == before


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(640, 481), (77, 1300), (31, 5)])
def test_the_miniature_made_in_strips_is_that_of_the_whole_picture(mode, size):
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGBA", (ramp, ramp.rotate(90).resize(size), ramp, ramp)) if mode != "I;16" else None
    deep = Image.fromarray((np.asarray(ramp, np.uint16) << 8) + 7)
    data = saved(image.convert(mode) if image else deep, "JPEG" if mode == "CMYK" else "PNG")
    whole = to_rgb(data).resize((32, 32), Image.Resampling.HAMMING, reducing_gap=2.0)
    with Image.open(io.BytesIO(data)) as opened:
        assert (miniature(opened) == np.asarray(whole)).all()


@pytest.mark.parametrize("size", [(640, 480), (77, 300), (2000, 70), (65, 64)])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_miniature_of_a_jpeg_is_that_of_its_full_decode(size, progressive):
    data = gradient(size, quality=90, progressive=progressive)
    with Image.open(io.BytesIO(data)) as image:
        whole = miniature(image.convert("RGB"))
    assert np.abs(decode_miniature(data, "jpg", size, 10**7).astype(int) - whole).max() <= 4


@pytest.mark.parametrize(("format_", "ext"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
@given(width=st.integers(1, 300), height=st.integers(1, 300), lossless=st.booleans(), progressive=st.booleans())
def test_the_header_says_what_pillow_says(format_, ext, width, height, lossless, progressive):
    options = {"WEBP": {"lossless": lossless}, "JPEG": {"progressive": progressive}}.get(format_, {})
    data = saved(Image.new("RGB", (width, height), "red"), format_, **options)
    found = read_header(data, ext)
    assert found[:2] == (width, height)
    assert found.memory_factor == {"PNG": 1, "JPEG": 1.5 if progressive else 1, "WEBP": 2}[format_]


def test_a_header_weighs_ink_and_animations_too():
    assert read_header(saved(Image.new("CMYK", (9, 7)), "JPEG"), "jpg") == (9, 7, 1.5)
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    moving = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert read_header(moving, "webp") == (9, 7, 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_hides_a_text_is_worth_decoding(mode, packed):
    hidden = b"a fox\nSteps: 20"
    assert may_hide_text(stealth(hidden, mode, packed=packed))
    assert may_hide_text(stealth(hidden, mode, packed=packed, format_="WEBP", lossless=True, exact=True))


def test_what_hides_none_costs_no_decoding():
    plain = [saved(Image.new(mode, (64, 64), "white"), "PNG") for mode in ("RGB", "L", "P", "LA", "1")]
    assert not any(map(may_hide_text, [*plain, picture("JPEG"), picture("WEBP")]))
    wide = saved(Image.new("RGB", (6000, 4000), "white"), "PNG")
    tracemalloc.start()
    assert not may_hide_text(wide)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
