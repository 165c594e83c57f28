"""The benchmark of a takedown runs, on few records."""

from tests.bench.forget import measure


def test_a_takedown_changes_few_shards_and_redoes_nothing(tmp_path):
    figures, _ = measure(tmp_path, 60)
    assert [figure.name for figure in figures if not figure.met and "seconds" not in figure.name] == []
