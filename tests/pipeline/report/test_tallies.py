"""What a report counts on disk is what numpy and a counter say of the same numbers and names in memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from surd.pipeline.report.page import Histogram, histogram
from surd.pipeline.report.tallies import Ranking, Series, ranked, tallying
from surd.pipeline.tables import Tables
from tests.pipeline.report.report_builds import series_of


def bins_of(folder: Path, numbers: dict[str, list[float]], least: float, cap: bool = False) -> Histogram | None:
    with Tables(folder) as tables:
        series = series_of(tables, numbers)
        return histogram({name: series[name] for name in numbers}, series[""], least, cap)


def test_histogram_bins_are_round_and_lose_no_value(tmp_path: Path) -> None:
    values = {"simple": [0.2 + i / 1000 for i in range(100)], "complex": [0.15] * 7}
    bins = bins_of(tmp_path, values, 0.005)
    assert bins and {name: sum(counts) for name, counts in bins.counts.items()} == {"simple": 100, "complex": 7}
    assert all(round(edge, 4) == edge for edge in bins.edges) and bins.edges[0] <= 0.15 and bins.edges[-1] > 0.299
    long_tail = bins_of(tmp_path, {"words": [*map(float, range(5, 25))] * 5 + [12_500.0]}, 1, cap=True)
    assert long_tail and sum(long_tail.counts["words"]) == 101 and long_tail.capped
    assert bins_of(tmp_path, {"none": []}, 1) is None


@pytest.mark.parametrize("count", [1, 2, 3, 9001])
def test_a_series_on_disk_has_the_median_the_quantiles_and_the_counts_of_one_in_memory(tmp_path, count: int) -> None:
    rng = np.random.default_rng(count)
    numbers = {"simple": rng.standard_normal(count).tolist(), "complex": rng.standard_normal(count // 2).tolist()}
    both = [*numbers["simple"], *numbers["complex"]]
    with Tables(tmp_path) as tables:
        series = series_of(tables, numbers)
        for name, values in {**numbers, "": both}.items():
            one: Series = series[name]
            assert len(one) == len(values)
            assert np.concatenate([np.zeros(0), *one.batches()]).tolist() == sorted(values)
            for share in (0.0, 0.3, 0.98, 1.0) if values else ():
                assert one.quantile(share) == np.quantile(values, share)
            assert not values or one.median() == np.median(values)
        bins = histogram({name: series[name] for name in numbers}, series[""], 0.01)
        assert bins
        for name, values in numbers.items():
            assert bins.counts[name] == np.histogram(values, bins.edges)[0].tolist()


def test_a_ranking_on_disk_is_that_of_a_counter_whatever_the_names_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"name {int(number)}" for number in rng.geometric(0.02, 5000)] + [
        "'; DROP VIEW names; --",
        "日本",
        "",
    ] * 80
    counts = Counter(names)
    with Tables(tmp_path) as tables:
        with tallying(tables) as tallies:
            for start in range(0, len(names), 100):
                tallies.count("words", Counter(names[start : start + 100]))
            tallies.count("others", Counter(["name 1"]))
        ranking = tallies.ranking("words", 30)
        assert tallies.ranking("nothing", 30) == Ranking([], 0)
    assert ranking.total == len(counts)
    assert ranking.top == sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].lower(), entry[0]))[:30]
    assert ranked([("b", 1), ("B", 2), ("a", 1), ("C", 2)], 3) == Ranking([("B", 2), ("C", 2), ("a", 1)], 4)
