"""Pictures are decoded ahead of whoever reads them, in order, and no further ahead than asked."""

import threading

import pytest

from surd.pipeline.batching import prefetch


def test_results_come_in_order():
    assert list(prefetch(lambda number: number * 2, range(50), 7)) == list(range(0, 100, 2))
    assert list(prefetch(str, [], 7)) == []


def test_no_more_than_the_window_is_taken_ahead():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    results = prefetch(str, items(), 5)
    assert next(results) == "0"
    assert len(taken) == 6
    results.close()
    assert len(taken) == 6


def test_work_goes_on_while_nobody_asks():
    done = threading.Event()
    results = prefetch(lambda number: done.set() if number == 1 else None, range(3), 2)
    next(results)
    assert done.wait(10)
    results.close()


def test_a_failure_is_raised_where_its_result_is_due():
    results = prefetch(lambda number: 1 // number, [1, 0], 4)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
