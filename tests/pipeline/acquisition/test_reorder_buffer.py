"""What is finished before its turn comes back byte for byte when it is due, from memory or from a file."""

from __future__ import annotations

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.acquisition.reorder_buffer import ReorderBuffer


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 5), st.randoms())
def test_rows_laid_in_any_order_are_taken_in_theirs(rows, room, chance):
    order = list(enumerate(rows))
    chance.shuffle(order)
    with closing(ReorderBuffer(None, room)) as shelf:
        laid = {row: shelf.lay(row, data) for row, data in order}
        held = [data for row, (data, *_) in laid.items() if data]
        assert len(held) <= room, "no more than that stays in memory"
        assert [shelf.take(laid[row]) for row in range(len(rows))] == rows


def test_the_file_has_no_name_and_a_row_whose_turn_is_near_needs_none(tmp_path):
    with closing(ReorderBuffer(tmp_path, 2)) as shelf:
        assert shelf.lay(1, b"near").data == b"near" and shelf._file is None
        assert shelf.lay(9, b"far").data == b"" and shelf._file is not None
        assert list(tmp_path.iterdir()) == []
