"""The benchmark of the reduces, on a few hundred records."""

from __future__ import annotations

from tests.bench.reduces import compare, misses


def test_a_tiny_run_finds_every_planted_copy_and_keeps_most_shards(tmp_path):
    figures = compare(tmp_path, 150, 300, 0.1, 15)
    assert set(figures["recall"]) >= {"kept", "copy", "prompt"}
    assert set(figures["recall"].values()) == {1.0}
    assert 0.8 <= figures["shards_unchanged"] < 1 and figures["shards_before"] == 20
    sizes = {"memory_dedup": 1.0, "memory_pack": 1.0, "time_dedup": 1.0}  # of so few records they say nothing
    assert misses(figures | sizes) == []
    assert misses(figures | sizes | {"memory_pack": 1.3, "recall": {"copy": 0.97}, "shards_unchanged": 0.7}) == [
        "memory_pack 1.3 > 1.2",
        "recall of copy 0.97 < 0.98",
        "shards_unchanged 0.7 < 0.8",
    ]
