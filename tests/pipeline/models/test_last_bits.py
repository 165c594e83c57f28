"""What a model in float32 gives for one item is the same bits beside any others, and on any number of threads."""

import json
import os
import subprocess
import sys

import pytest


def digests(threads: int) -> dict[str, dict[str, list[str]]]:
    # In a process of its own: MKL reads its mode once.
    program = [sys.executable, "-m", "tests.pipeline.models.last_bits", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_CBWR")}
    ran = subprocess.run(program, capture_output=True, text=True, timeout=600, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def on_threads():
    return {threads: digests(threads) for threads in (1, 2)}


@pytest.mark.parametrize("kind", ["clip images", "clip texts", "captions", "replies", "states"])
def test_an_item_has_the_same_bits_in_any_batch_and_on_any_number_of_threads(on_threads, kind):
    expected = on_threads[1][kind]["together"]
    assert len(set(expected)) == len(expected), "the items differ, or the comparison would show nothing"
    for threads, by_kind in on_threads.items():
        for way, found in by_kind[kind].items():
            assert found == expected, (threads, way)
