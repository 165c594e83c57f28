"""A run finds by the ledgers what is done, hands each unit what it needs, and redoes nothing of an older version."""

import shutil

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import Planner, fold_ledgers
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import SurdError, load_config
from tests.pipeline.conftest import redone, run_all


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built.root, tmp_path / "copy")
    return Build(str(tmp_path / "copy"))


def plans(build, config):
    planner = Planner(build, config)
    return {stage.name: planner.plan(stage) for stage in STAGES}


def as_before_the_ledger(build: Build) -> set[str]:
    """The build as versions before the ledger left it: a marker file a unit, without sizes."""
    folders = [*(stage.name for stage in STAGES), *(f"embed/{name}" for name in build.listdir("columns"))]
    files = set()
    for folder in folders:
        ledger = build.ledger(folder)
        for unit in ledger.units():
            document = ledger.recorded(unit).model_dump(mode="json", exclude={"sizes"})
            files.add(file := f"{folder}/part-{unit:05d}.done.json")
            build.write_json(file, document)
        build.remove(f"{folder}/ledger")
        build.remove(f"{folder}/ledger.parquet")
    return files


def test_of_a_finished_build_nothing_is_to_be_run(built, copy):
    fold_ledgers(copy)
    found = plans(copy, built.config)
    assert not any(plan.tasks for plan in found.values())
    counts = {name: len(plan.done) for name, plan in found.items()}
    assert (counts["collect"], counts["score"], counts["pack"], counts["embed"]) == (1, 2, 1, 3)
    assert sum(found["score"].done.values()) == 16


def test_a_build_of_an_older_version_is_taken_over_and_nothing_of_it_is_redone(built, copy):
    files = as_before_the_ledger(copy)
    assert len(files) > 20 and redone(run_all(copy.root, built.config)) == set(), "read as it is"
    fold_ledgers(copy)
    assert not any(copy.exists(file) for file in files)
    assert not any(plan.tasks for plan in plans(copy, built.config).values())
    assert redone(run_all(copy.root, built.config)) == set()


def test_a_plan_reads_each_ledger_once_and_lists_each_folder_once_a_ledger(built, copy, monkeypatch):
    read, listed = [], []
    ledger, sizes = Build.ledger, Build.sizes
    monkeypatch.setattr(Build, "ledger", lambda self, stage: read.append(stage) or ledger(self, stage))
    monkeypatch.setattr(Build, "sizes", lambda self, folder: listed.append(folder) or sizes(self, folder))
    monkeypatch.setattr(Build, "marker", lambda *_: pytest.fail("one marker was asked for"))
    plans(copy, built.config)
    assert sorted(read) == sorted(stage.name for stage in STAGES)
    assert listed.count("score") == 1 and listed.count("collect") == 1


def test_a_unit_with_a_task_reads_no_ledger_and_writes_what_it_would_without(built, copy, monkeypatch):
    before = copy.marker("score", 1)
    copy.remove_marker("score", 1)
    (task,) = Planner(copy, built.config).plan(BY_NAME["score"]).tasks
    assert (task.unit, task.parts, task.fingerprint, task.marked) == (1, 2, before.fingerprint, False)
    with monkeypatch.context() as patched:
        for name in ("ledger", "marker"):
            patched.setattr(Build, name, lambda *_: pytest.fail("the ledger was read"))
        assert not run_unit(BY_NAME["score"], 1, copy.root, built.config, task).skipped
        assert run_unit(BY_NAME["score"], 1, copy.root, built.config, task).skipped, "it has ended in this run"
    assert copy.marker("score", 1).model_copy(update={"seconds": before.seconds}) == before


def test_a_unit_that_is_killed_while_it_is_redone_does_not_count_as_done(built, copy, monkeypatch):
    fold_ledgers(copy)
    other = load_config(built.config.model_dump(), {"report.samples": 2})
    (task,) = Planner(copy, other).plan(BY_NAME["report"]).tasks
    assert task.marked
    monkeypatch.setattr(Build, "write_marker", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        run_unit(BY_NAME["report"], 0, copy.root, other, task)
    assert [task.unit for task in plans(copy, built.config)["report"].tasks] == [0], "its old marker is gone"


def test_a_plan_of_a_stage_whose_input_is_not_done_says_so(built, copy):
    copy.remove_marker("clean", 1)
    with pytest.raises(SurdError, match=r"its stage clean is not finished \(part 1\)"):
        Planner(copy, built.config).plan(BY_NAME["dedup"])


def test_a_run_that_has_lost_the_build_plans_nothing_more(built, copy):
    def lost() -> None:
        raise SurdError("another run has taken over")

    with pytest.raises(SurdError, match="taken over"):
        Planner(copy, built.config, check=lost).plan(BY_NAME["report"])


def test_a_shorter_collect_takes_what_was_beyond_it_out_of_the_ledgers(built, copy):
    fold_ledgers(copy)
    run_all(copy.root, load_config(built.config.model_dump(), {"limit": 6}), upto="clean")
    assert copy.ledger("clean").units() == [0] == copy.ledger("fetch").units()
    assert copy.ledger("collect").recorded(0).parts == 1
