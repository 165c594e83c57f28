"""The benchmark of buckets, on few pictures and without its training."""

from __future__ import annotations

from surd.schemas.shard_format.buckets import bucket_sizes
from tests.bench.buckets import SHAPES, cropped, pictures


def test_what_is_cut_off_is_counted_in_both_ways() -> None:
    assert cropped([(1024, 1024)], [(1500, 1000), (1000, 1500)]) == 1 - 1000 / 1500
    drawn = pictures(2000, seed=1)
    assert {round(width / height, 1) for width, height in drawn} > {round(x / y, 1) for x, y in SHAPES}
    assert cropped(bucket_sizes(1024), drawn) < 0.05 < 0.2 < cropped([(1024, 1024)], drawn)
