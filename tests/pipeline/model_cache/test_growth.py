"""A build that grows by a tenth, with better copies among the new, asks its models about the new alone."""

import shutil

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.model_cache import outputs as output_cache
from surd.pipeline.model_cache.outputs import FOLDER, bytes_kept
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.runner.verify_markers import verify_stages
from surd.pipeline.stages import BY_NAME
from tests.bench.growth import MOST, MOST_PARTITIONS, STAGES_COMPARED, counted, measure, rows_of
from tests.flows.tiny_llm import save_tiny_llm


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return {
        "partition_size": 4,
        "models": {"llm": str(save_tiny_llm(tmp_path_factory.mktemp("llm")))},
        "correct": {"witnesses": ["clip", "vqa"]},
        "facts": {"similarity": None},
    }


@pytest.fixture(scope="module")
def grown(settings, tmp_path_factory):
    """The folder of the builds, and what ``measure`` says of them."""
    folder = tmp_path_factory.mktemp("growth")
    return folder, measure(folder, 10, settings)


def test_models_are_asked_about_the_new_records_alone(grown):
    _, figures = grown
    assert figures["ratio"] <= MOST < 3 < figures["ratio_without_cache"]
    for what, rows in figures["rows"].items():
        assert 0 < rows["grown"] <= MOST * rows["new_alone"] < rows["first"], what


def test_of_the_partitions_that_are_there_only_the_last_is_done_again_for_new_records(grown):
    _, figures = grown
    assert figures["partitions_done_again"] <= MOST_PARTITIONS < figures["partitions"]


def test_the_rows_are_those_of_a_build_made_at_once(grown):
    folder, figures = grown
    assert figures["largest_difference"] <= 1e-6
    statuses = [row["status"] for row in rows_of(folder / "fresh")["correct"]]
    assert statuses.count("rejected") == figures["better_copies"] > 0


def test_the_outputs_may_be_removed_and_no_marker_knows_of_them(grown, settings, built, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(built.root, root)
    assert bytes_kept(str(root)) > 0
    before = {stage: (root / stage / "part-00000.parquet").read_bytes() for stage in STAGES_COMPARED}
    shutil.rmtree(root / FOLDER)
    output_cache._index.cache_clear()
    with counted() as rows:
        assert all(run_unit(BY_NAME[stage], 0, str(root), built.config).skipped for stage in STAGES_COMPARED)
    assert not rows
    assert [finding for checked in verify_stages(Build(str(root))) for finding in checked.findings] == []
    Build(str(root)).remove_marker("score", 0)
    with counted() as rows:
        assert not run_unit(BY_NAME["score"], 0, str(root), built.config).skipped
    assert rows["CLIP pictures"] and rows["CLIP texts"] and bytes_kept(str(root)) > 0
    assert (root / "score/part-00000.parquet").read_bytes() == before["score"]


def test_the_summary_says_how_large_they_are_where_that_is_much(built, monkeypatch):
    assert not any(FOLDER in note for note in summarize(built.build, [])["notes"])
    monkeypatch.setattr(output_cache, "LARGE", 1000)
    assert FOLDER in summarize(built.build, [])["notes"][-1]


@pytest.mark.parametrize("stage", STAGES_COMPARED)
def test_a_stage_that_is_done_again_asks_no_model_and_writes_the_same_bytes(built, tmp_path, stage):
    root = tmp_path / "copy"
    shutil.copytree(built.root, root)
    before = (root / stage / "part-00000.parquet").read_bytes()
    Build(str(root)).remove_marker(stage, 0)
    with counted() as rows:
        assert not run_unit(BY_NAME[stage], 0, str(root), built.config).skipped
    assert not rows
    assert (root / stage / "part-00000.parquet").read_bytes() == before
