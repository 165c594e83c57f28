"""The order in buckets: every sample once an epoch, one bucket a batch, the same batches for any number of ranks."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sur_adapter.data.bucket_order import BucketOrder

shards = st.lists(st.text("013a", max_size=9), min_size=1, max_size=6).filter(any)
sizes = st.integers(1, 6)
worlds = st.integers(1, 4)


def everything(digits: list[str]) -> list[tuple[int, int]]:
    return [(shard, i) for shard, one in enumerate(digits) for i in range(len(one))]


def batches(order: BucketOrder, count: int) -> list[list[tuple[int, tuple[int, int]]]]:
    size = order.batch_size
    return [order.by_epoch(number * size, (number + 1) * size) for number in range(count)]


@given(shards, sizes, st.integers(1, 12), st.integers(0, 99), st.integers(1, 4))
def test_every_sample_comes_once_an_epoch_in_batches_of_one_bucket(
    digits: list[str], size: int, shuffle: int, seed: int, epochs: int
) -> None:
    order = BucketOrder(digits, size, seed=seed, shuffle=shuffle)
    count = len(everything(digits))
    read = batches(order, 1 + (epochs + 4 * size) * count // size)
    for batch in read:
        assert len(batch) == size and len({digits[shard][at] for _, (shard, at) in batch}) == 1
    for epoch in range(epochs):  # what is left of a bucket comes with the next epochs of it
        places = [place for batch in read for of, place in batch if of == epoch]
        assert sorted(places) == everything(digits)


@given(shards, sizes, worlds, st.integers(1, 12))
def test_any_number_of_ranks_reads_the_batches_of_one(digits: list[str], size: int, world: int, shuffle: int) -> None:
    alone = batches(BucketOrder(digits, size, seed=3, shuffle=shuffle), 6 * world)
    ranks = [BucketOrder(digits, size, seed=3, shuffle=shuffle, rank=rank, world=world) for rank in range(world)]
    together = [batch for step in zip(*(batches(order, 6) for order in ranks), strict=True) for batch in step]
    assert together == alone


@given(shards, sizes, st.integers(1, 12), st.data())
def test_a_stream_read_in_pieces_is_the_stream_read_whole(
    digits: list[str], size: int, shuffle: int, data: st.DataObject
) -> None:
    length = 3 * len(everything(digits))
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    whole = BucketOrder(digits, size, seed=1, shuffle=shuffle).by_epoch(0, length)
    pieces = [
        BucketOrder(digits, size, seed=1, shuffle=shuffle).by_epoch(start, stop)
        for start, stop in zip([0, *cuts], [*cuts, length], strict=True)
    ]
    assert [place for piece in pieces for place in piece] == whole


@given(shards, sizes, st.integers(1, 12), st.integers(1, 3))
def test_a_stream_that_ends_leaves_nothing_out_and_its_shorter_batches_are_the_last(
    digits: list[str], size: int, shuffle: int, epochs: int
) -> None:
    order = BucketOrder(digits, size, seed=1, shuffle=shuffle, epochs=epochs)
    spans = order.spans()
    read = [order.locations(start, stop) for start, stop in spans]
    assert all(len({digits[shard][at] for shard, at in batch}) == 1 for batch in read)
    assert Counter(place for batch in read for place in batch) == dict.fromkeys(everything(digits), epochs)
    assert [is_full for is_full, _ in groupby(len(batch) == size for batch in read)] in ([True], [True, False], [False])
    assert order.locations(spans[-1][1] - 1, spans[-1][1] + 99) == read[-1][-1:]
    endless = BucketOrder(digits, size, seed=1, shuffle=shuffle)
    full = sum(len(batch) == size for batch in read)
    assert read[:full] == [[place for _, place in batch] for batch in batches(endless, full)]


def test_seed_and_epoch_decide_the_order_and_buckets_are_mixed() -> None:
    digits = ["0" * 30 + "1" * 30] * 2

    def epoch(number: int, seed: int = 0) -> list[tuple[int, int]]:
        return BucketOrder(digits, 5, seed=seed, shuffle=64).locations(120 * number, 120 * number + 120)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, seed=1)
    buckets = [digits[shard][at] for shard, at in epoch(0)[::5]]
    assert sum(1 for _ in groupby(buckets)) > 4 and Counter(buckets) == {"0": 12, "1": 12}


def test_a_batch_is_of_few_shards_where_its_bucket_is_common() -> None:
    order = BucketOrder(["0" * 90 + "1" * 10] * 40, 10, seed=0, shuffle=200)
    common = [shards for shards in _shards_of_batches(order, 400) if len(shards) < 10]
    assert len(common) > 350 and max(map(len, common)) <= 5


def _shards_of_batches(order: BucketOrder, count: int) -> list[set[int]]:
    return [{shard for _, (shard, _) in batch} for batch in batches(order, count)]


@pytest.mark.parametrize("wrong", [{"rank": 2, "world": 2}, {"rank": -1}, {"world": 2, "epochs": 1}])
def test_what_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rank"):
        BucketOrder(["01"], 2, seed=0, **wrong)
