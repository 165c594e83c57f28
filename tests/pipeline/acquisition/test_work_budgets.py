"""What a file costs is bounded by budgets of work: segments, scans, and unpacked text even where unpacking fails."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from PIL import Image

from surd.pipeline.acquisition.inspect_image import inspect, inspect_cheap
from surd.pipeline.metadata import texts
from surd.pipeline.metadata.stealth import may_hide_text
from surd.pipeline.metadata.texts import texts_of
from surd.pipeline.rejection import Rejected
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas import Reason
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.container import MAX_SCANS, MAX_SEGMENTS, MAX_STRAY, TooComplex, segments
from surd.schemas.shard_format.pixels import to_rgb
from tests.pipeline.broken_files import noise
from tests.pipeline.image_bytes import chunk, packed_chunk, png, saved, text_chunk

JPEG = saved(noise(), "JPEG")
TABLE = JPEG.index(b"\xff\xdb")
SETTINGS = FetchConfig()


def filled(filling: bytes, count: int) -> bytes:
    return JPEG[:TABLE] + filling * count + JPEG[TABLE:]


@pytest.mark.parametrize(
    ("filling", "most"),
    [
        (b"\xff\xfe\0\2", MAX_SEGMENTS),
        (b"\xff\xdd\0\4\0\0", MAX_SEGMENTS),
        (b"\xff", MAX_STRAY),
        (b"\xff\xd0", MAX_STRAY // 2),
    ],
    ids=["comments", "intervals", "fill", "restarts"],
)
def test_a_jpeg_just_within_a_budget_is_kept_and_one_beyond_it_is_not(filling, most):
    facts, _ = inspect(filled(filling, most - 20), SETTINGS)
    assert (facts.width, facts.height) == (64, 48)
    assert to_rgb(filled(filling, most - 20)).tobytes() == to_rgb(JPEG).tobytes()
    beyond = filled(filling, most + 1)
    for look in (
        lambda: inspect(beyond, SETTINGS),
        lambda: inspect_cheap(beyond, SETTINGS, None),
        lambda: decode_miniature(beyond, "jpg", (64, 48), SETTINGS.max_pixels),
    ):
        with pytest.raises(Rejected) as rejected:
            look()
        assert rejected.value.reason is Reason.TOO_COMPLEX and "it has more than 65,536" in rejected.value.detail
    with pytest.raises(TooComplex):
        to_rgb(beyond)


def test_the_scans_of_a_jpeg_are_counted():
    progressive = saved(noise("L"), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scans = progressive.count(b"\xff\xda")

    def of(count: int) -> bytes:
        return progressive[:last] + progressive[last:-2] * (count - scans + 1) + progressive[-2:]

    assert inspect(of(MAX_SCANS), SETTINGS)[0].width == 64
    with pytest.raises(Rejected) as rejected:
        inspect(of(MAX_SCANS + 1), SETTINGS)
    assert (rejected.value.reason, rejected.value.detail) == (Reason.TOO_COMPLEX, "it has more than 64 scans")


def test_texts_that_do_not_unpack_draw_on_the_budget(monkeypatch):
    unpacked, open_stream = [], zlib.decompressobj

    class Counting:
        def __init__(self):
            self._inflate = open_stream()

        def decompress(self, data, most):
            piece = self._inflate.decompress(data, most)
            unpacked.append(len(piece))
            self.unconsumed_tail = self._inflate.unconsumed_tail
            return piece

    unsound = zlib.compress(bytes(3_900_000))[:-4] + bytes(4)
    many = b"".join(chunk(b"zTXt", b"k%d\0\0" % number + unsound) for number in range(300))
    data = png(text_chunk("parameters", "a fox"), many)
    with monkeypatch.context() as patched:
        patched.setattr(texts.zlib, "decompressobj", Counting)
        assert texts_of(data) == {"parameters": "a fox"}
    assert sum(unpacked) <= 17_000_000
    started = time.process_time()
    inspect(data, SETTINGS)
    assert time.process_time() - started < 5


def test_damaged_texts_hide_no_sound_one():
    damaged = [chunk(b"zTXt", b"k%d\0\0" % number + zlib.compress(b"x" * 900)[:-4] + bytes(4)) for number in range(12)]
    sound = [packed_chunk(f"s{number}", f"text {number} " * 300) for number in range(150)]
    found = texts_of(png(*damaged, *sound))
    assert found == {f"s{number}": f"text {number} " * 300 for number in range(150)}


def test_a_long_text_is_cut_and_texts_behind_the_limit_are_not_read():
    long = packed_chunk("long", "ab" * 3_000_000)
    assert {name: len(text) for name, text in texts_of(png(long, text_chunk("next", "a"))).items()} == {
        "long": 4_000_000
    }


@pytest.mark.parametrize("pieces", [1, 30_000])
def test_a_hidden_text_is_looked_for_at_one_cost_however_the_pixels_are_cut_into_chunks(pieces):
    width, height = 40_000, 800
    rows = zlib.compress(bytes(height * (1 + 3 * width)), 0)[: 8 * 3 * width + 1000]
    size = -(-len(rows) // pieces)
    pixels = b"".join(chunk(b"IDAT", rows[at : at + size]) for at in range(0, len(rows), size))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    started = time.process_time()
    assert not may_hide_text(b"\x89PNG\r\n\x1a\n" + head + pixels)
    assert time.process_time() - started < 2


def test_ordinary_files_of_many_segments_are_whole():
    big = saved(Image.effect_noise((1500, 1000), 90), "PNG")
    small_chunks = b"".join(
        chunk(b"IDAT", big[part.body : part.body_end][at : at + 512])
        for part in segments(big)
        if part.kind == b"IDAT"
        for at in range(0, part.body_end - part.body, 512)
    )
    data = big[:33] + small_chunks + big[-12:]
    assert sum(1 for _ in segments(data)) > 2000
    assert to_rgb(data).tobytes() == to_rgb(big).tobytes() and inspect(data, SETTINGS)[0].width == 1500
