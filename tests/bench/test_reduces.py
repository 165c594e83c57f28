"""The benchmark of the reduces, on a few hundred records."""

from __future__ import annotations

from tests.bench.reduces import GOALS, beside_goals, compare


def test_a_tiny_run_finds_every_planted_copy_and_keeps_most_shards(tmp_path):
    figures = compare(tmp_path, 150, 300, 0.1, 15)
    assert set(figures["recall"]) >= {"kept", "copy", "prompt"}
    assert {*figures["recall"].values(), figures["recall_select"]} == {1.0}
    assert 0.8 <= figures["shards_unchanged"] < 1 and figures["shards_before"] == 20
    alike = dict.fromkeys(GOALS, 1.0)  # of so few records they say nothing
    alike |= {name: 1000 for name in figures if name.startswith("mb_million_")}
    assert [figure.name for figure in beside_goals(figures | alike) if not figure.met] == []
    worse = {"memory_pack": 1.3, "mb_million_report": 2100, "recall": {"copy": 0.97}, "shards_unchanged": 0.7}
    missed = [figure.name for figure in beside_goals(figures | alike | worse) if not figure.met]
    assert missed == ["memory_pack", "mb_million_report", "recall_copy", "shards_unchanged"]
