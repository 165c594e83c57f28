"""Files made to hurt end with a reason, and kinds of pictures follow one stated rule."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from surd.pipeline.acquisition.inspect_image import inspect
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.container import image_end, segments, strip_metadata
from surd.schemas.shard_format.pixels import to_rgb
from tests.bench.files import run
from tests.pipeline.broken_files import write_folder
from tests.pipeline.fetching import picture
from tests.pipeline.image_bytes import png, saved, text_chunk


def test_every_broken_file_ends_as_it_must_in_little_memory(tmp_path):
    files = write_folder(tmp_path / "broken")
    ended = run(tmp_path / "broken", tmp_path / "build", files)
    assert ended.status == 0, ended.stderr
    assert ended.wrong(files.values()) == []
    assert ended.peak_mb <= 512


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("tail", [b"PK\x03\x04rest", b"<script>", b"%PDF-1.7", b"junk PK\x05\x06" + bytes(18)])
def test_an_image_with_another_file_behind_it_is_a_polyglot(format_, tail):
    with pytest.raises(Rejected) as refused:
        inspect(picture(format_) + tail, FetchConfig())
    assert refused.value.reason is Reason.POLYGLOT


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_padding_and_text_behind_an_image_are_no_polyglot(format_):
    for tail in (b"", bytes(100), b'{"prompt": "a fox"}'):
        assert inspect(picture(format_) + tail, FetchConfig())[0].width == 48


def test_sixteen_bits_cmyk_and_alpha_come_out_as_the_rule_says():
    grey = to_rgb(saved(Image.fromarray(np.full((4, 4), 0x8040, np.uint16)), "PNG"))
    assert grey.mode == "RGB" and grey.getpixel((0, 0)) == (0x80, 0x80, 0x80)
    assert to_rgb(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG")).getpixel((0, 0)) == (255, 255, 255)
    noise = Image.frombytes("RGBA", (64, 600), random.Random(0).randbytes(64 * 600 * 4))
    whole = Image.alpha_composite(Image.new("RGBA", noise.size, "white"), noise).convert("RGB")
    assert to_rgb(saved(noise, "PNG")).tobytes() == whole.tobytes()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_picture_is_turned_upright_as_its_exif_says(format_, orientation, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    noise = Image.frombytes("RGB", (16, 8), random.Random(0).randbytes(16 * 8 * 3))
    data = saved(noise, format_, exif=exif.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        assert to_rgb(data).tobytes() == ImageOps.exif_transpose(image).convert("RGB").tobytes()


def test_the_decoder_sees_no_text_and_no_profile_and_the_picture_is_the_same():
    texts = text_chunk("parameters", "a fox"), text_chunk("prompt", "{}")
    exif = Image.Exif()
    exif[0x010F] = "camera"
    jpeg = picture("JPEG", comment=b"a fox", icc_profile=b"x" * 500, exif=exif)
    for data in (png(*texts), png(*texts, late=True), jpeg, picture("JPEG", mode="CMYK", exif=exif), picture("WEBP")):
        small = strip_metadata(data)
        assert not any(word in small for word in (b"fox", b"camera", b"xxxx"))
        assert to_rgb(small).tobytes() == to_rgb(data).tobytes()
        assert image_end(data) == len(data) and image_end(small) == len(small)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([picture("PNG"), picture("JPEG", progressive=True), picture("WEBP")]), st.data())
def test_the_chunks_of_no_file_overlap_or_leave_it(data, draw):
    damaged = bytearray(data[: draw.draw(st.integers(0, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4)) if damaged else 0):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    end = 0
    for chunk in segments(bytes(damaged), whole=True):
        assert end <= chunk.start <= chunk.body <= chunk.body_end <= chunk.end <= len(damaged)
        assert chunk.start < chunk.end
        end = chunk.end
    assert image_end(bytes(damaged)) in (None, *range(len(damaged) + 2))
    strip_metadata(bytes(damaged))
