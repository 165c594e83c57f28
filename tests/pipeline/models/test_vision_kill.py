"""A build that is killed and started again asks a vision server nothing that it has the answer to."""

from tests.bench.vision_kill import CONCURRENCY, killed


def test_a_killed_process_asks_no_question_twice_but_those_under_way(tmp_path):
    kills, size = 3, 100
    found = killed(tmp_path, kills, size, seed=0, delay=0.01)
    assert found.questions == 3 * size
    assert found.twice == 0
    assert found.asked - found.questions == found.again <= kills * CONCURRENCY
