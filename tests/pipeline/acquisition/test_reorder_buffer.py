"""Rows put out of order come back in order, byte for byte, from memory or from a file."""

from __future__ import annotations

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.acquisition.reorder_buffer import ReorderBuffer


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 5), st.randoms())
def test_rows_put_in_any_order_are_popped_in_theirs(rows, in_memory, chance):
    order = list(enumerate(rows))
    chance.shuffle(order)
    with closing(ReorderBuffer(None, in_memory)) as buffer:
        spilled = {row: buffer.put(row, data) for row, data in order}
        held = [data for row, (data, *_) in spilled.items() if data]
        assert len(held) <= in_memory, "no more than that stays in memory"
        assert [buffer.pop_next(spilled[row]) for row in range(len(rows))] == rows


def test_the_file_has_no_name_and_the_next_rows_need_none(tmp_path):
    with closing(ReorderBuffer(tmp_path, 2)) as buffer:
        assert buffer.put(1, b"near").data == b"near" and buffer._file is None
        assert buffer.put(9, b"far").data == b"" and buffer._file is not None
        assert list(tmp_path.iterdir()) == []
