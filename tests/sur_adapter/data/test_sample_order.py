"""The order of samples: every sample once an epoch, whatever the ranks, and the same however often it is asked for."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sur_adapter.data.sample_order import SampleOrder

counts = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)
shuffles = st.integers(1, 12)
worlds = st.integers(1, 5)


def everything(numbers: list[int]) -> list[tuple[int, int]]:
    return [(shard, i) for shard, count in enumerate(numbers) for i in range(count)]


@given(counts, worlds, shuffles, st.integers(0, 99), st.integers(1, 3))
def test_every_epoch_holds_every_sample_once_over_all_ranks(
    numbers: list[int], world: int, shuffle: int, seed: int, epochs: int
) -> None:
    orders = [SampleOrder(numbers, seed=seed, rank=rank, world=world, shuffle=shuffle) for rank in range(world)]
    before, after = orders[0].lengths(epochs - 1), orders[0].lengths(epochs)
    read = [order.locations(before[rank], after[rank]) for rank, order in enumerate(orders)]
    assert sorted(place for one in read for place in one) == everything(numbers)
    assert max(after) - min(after) <= 1
    assert orders[0].lengths(world) == [sum(numbers)] * world


@given(counts, worlds, shuffles, st.data())
def test_a_stream_read_in_pieces_is_the_stream_read_whole(
    numbers: list[int], world: int, shuffle: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, world - 1))
    length = 3 * sum(numbers)
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    whole = SampleOrder(numbers, seed=1, rank=rank, world=world, shuffle=shuffle).locations(0, length)
    pieces = [
        SampleOrder(numbers, seed=1, rank=rank, world=world, shuffle=shuffle).locations(start, stop)
        for start, stop in zip([0, *cuts], [*cuts, length], strict=True)
    ]
    assert [place for piece in pieces for place in piece] == whole


def test_seed_and_epoch_decide_the_order() -> None:
    def epoch(number: int, seed: int = 0) -> list[tuple[int, int]]:
        return SampleOrder([50, 50], seed=seed, shuffle=64).locations(100 * number, 100 * number + 100)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, seed=1)


def test_neighbours_in_a_shard_are_torn_apart_but_few_shards_are_open_at_a_time() -> None:
    locations = SampleOrder([100] * 50, seed=0, shuffle=400).locations(0, 5000)
    steps = [abs(a[1] - b[1]) for a, b in pairwise(locations) if a[0] == b[0]]
    assert np.mean(steps) > 25
    assert max(len({shard for shard, _ in locations[i : i + 400]}) for i in range(0, 5000, 400)) <= 5


def test_ranks_share_no_shard_but_those_at_the_cuts() -> None:
    orders = [SampleOrder([100] * 12, seed=0, rank=rank, world=3) for rank in range(3)]
    shards = [{shard for shard, _ in order.locations(0, 400)} for order in orders]
    assert sorted(len(one) for one in shards) == [4, 4, 4] and len(set().union(*shards)) == 12


@pytest.mark.parametrize("wrong", [{"rank": 2, "world": 2}, {"shuffle": 0}, {"rank": -1}])
def test_a_rank_that_is_none_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rank"):
        SampleOrder([1], seed=0, **wrong)


def test_the_order_is_that_of_earlier_versions_so_that_their_runs_resume() -> None:
    stream = SampleOrder([100, 0, 37, 250], seed=7, shuffle=64).by_epoch(0, 1500)
    assert hashlib.sha256(repr(stream).encode()).hexdigest()[:16] == "c9be29e6566e5705"
    stream = SampleOrder([5, 9, 2], seed=3, rank=1, world=3, shuffle=4).by_epoch(0, 60)
    assert hashlib.sha256(repr(stream).encode()).hexdigest()[:16] == "92e1d0ecd5b28a38"
