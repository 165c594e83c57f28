"""The records of a unit count while it runs, wherever that is; each counts once, and nothing is left of it."""

import multiprocessing
import shutil
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from prefect import flow

from surd.flows import windows
from surd.flows.add_columns import add_columns
from surd.flows.executors import ContextThreads
from surd.flows.listener import Listener
from surd.flows.record_watch import RecordWatch
from surd.flows.run_stages import run_stages
from surd.pipeline.build import progress as unit_progress
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.build.progress import UnitProgress, counting, live_share, remove_leftovers
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, load_config
from tests.pipeline.models.vision_service import completion

pytest_plugins = ["tests.pipeline.served"]
AT_ONCE = "import surd.pipeline.build.progress as progress; progress.EVERY = 0.0"


@pytest.fixture
def at_once(monkeypatch):
    """Units tell after every record, and are looked at many times a second."""
    monkeypatch.setattr(unit_progress, "EVERY", 0.0)
    monkeypatch.setattr(windows, "EVERY", 0.05)


@pytest.fixture
def copy(built, tmp_path):
    """A finished build to write into, and its config."""
    shutil.copytree(built[0], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/model-cache", ignore_errors=True)
    return Build(str(tmp_path / "copy")), recorded_config(*open_build(str(tmp_path / "copy")))


class Watching(Listener):
    """``done``: how many records were done each time; ``inside`` is set when the first unit has done one and runs."""

    def __init__(self):
        self.done, self.total, self.units, self.inside = [], 0, 0, threading.Event()

    def progress(self, stage, done, total):
        self.units = done

    def records(self, stage, progress):
        self.done.append(progress.done)
        self.total = progress.total
        assert progress.done == 0 or progress.rate
        if progress.done and not self.units:
            self.inside.set()


def threads():
    return ContextThreads(1)


def process():
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=exec, initargs=(AT_ONCE,))


@pytest.mark.parametrize("runner", [threads, process])
def test_the_driver_sees_records_of_a_unit_that_runs_in_a_thread_or_in_a_process(
    runner, copy, serve, tmp_path, at_once
):
    build, recorded = copy
    watching, asked = Watching(), []

    def answer(request):
        asked.append(request.path)
        if len(asked) == 2:
            assert watching.inside.wait(60), "the first record does not count before its unit ends"
        request.send(200, completion("A white box on a table."))

    server = serve(answer)
    fields = recorded.model_dump(mode="json")
    fields["models"] |= {"captioner": f"openai:{server.url}/v1#tiny"}
    fields["models"]["server"] |= {"concurrency": 1, "cache": str(tmp_path / "answers.sqlite"), "timeout": 90}
    planner = Planner(build, load_config(fields, {}))

    @flow
    def captioned():
        with runner() as executor:
            return run_stages([BY_NAME["caption"]], planner, executor, [watching])

    outcomes = captioned()
    assert [outcome.skipped for outcome in outcomes] == [False, False] and len(asked) >= 4
    assert watching.inside.is_set() and watching.done == sorted(watching.done)
    assert watching.done[-1] == watching.total == 6
    assert not list(tmp_path.rglob("*.progress.json*"))
    marked = [file for outcome in outcomes for file in outcome.marker.outputs]
    assert marked == ["caption/part-00000.parquet", "caption/part-00001.parquet"]


STEPS = {
    **dict.fromkeys(("safety.batch_size", "score.batch_size", "caption.batch_size", "correct.batch_size"), 1),
    "rewrite.enabled": True,
    "rewrite.k": 2,
    "rewrite.batch_size": 1,
    "correct.witnesses": ["clip"],
}


@pytest.mark.parametrize("stage", ["decode", "clean", "safety", "score", "caption", "rewrite", "correct", "embed"])
def test_every_stage_with_models_counts_up_to_all_of_a_unit(stage, copy):
    build, config = copy
    config = load_config(config.model_dump(mode="json"), STEPS)
    if stage == "embed":
        shutil.rmtree(build.local_path("columns"))
        shutil.rmtree(build.local_path("embed"))
    shares = []
    build.progress = UnitProgress(lambda progress: shares.append(progress.share))
    BY_NAME[stage].load()(build, 0, config, Models(config.models))
    assert shares[-1] == 1.0 and shares[0] < 1.0 and shares == sorted(shares)


def test_the_model_that_is_asked_about_facts_is_what_counts(copy):
    build, config = copy
    config = load_config(
        config.model_dump(mode="json"),
        {"correct.witnesses": ["clip", "vqa"], "facts.extractor": "llm", "models.vqa": BuildConfig().models.vqa},
    )
    shares = []
    build.progress = UnitProgress(lambda progress: shares.append(progress.share))
    BY_NAME["correct"].load()(build, 0, config, Models(config.models))
    assert shares[-1] == 1.0 and 0.5 in shares and shares == sorted(shares)


def test_a_pass_counts_once_and_only_one_that_is_expected():
    shares = []
    progress = UnitProgress(lambda progress: shares.append(progress.share))
    progress.expect("pictures", "prompts")
    assert list(progress.counted("ab", 2, "pictures")) == ["a", "b"]
    progress.begin(5, "pictures")(5)
    progress.begin(5)(5)
    progress.begin(0, "prompts")
    progress.begin(4, "prompts")(9)
    assert shares == [0.25, 0.5, 1.0]


def test_what_a_killed_run_left_does_not_count_and_is_removed(copy, at_once):
    build, config = copy
    watch = RecordWatch(BY_NAME["caption"], Planner(build, config))
    left = build.local_path("caption/part-00000.progress.json")
    for document in ('{"started": 1.0, "share": 0.5}', "{", f'{{"started": {time.time() + 9}, "share": 7}}'):
        left.write_text(document)
        watch.unit_started(0)
        watch.look()
        assert watch.now().done == 0
    left.write_text(f'{{"started": {time.time() + 9}, "share": 0.7}}')
    watch.look()
    assert watch.now().done == 2, "of three records"
    watch.unit_started(0)  # anew, after a fault
    assert watch.now().done == 2
    left.with_name("part-00001.progress.json.tmp").write_text("")
    before = set(build.listdir("caption"))
    remove_leftovers(build, "caption")
    assert before - set(build.listdir("caption")) == {left.name, "part-00001.progress.json.tmp"}


def test_a_unit_that_takes_less_than_a_second_writes_no_file_and_one_that_fails_leaves_none(tmp_path, monkeypatch):
    build = Build(str(tmp_path))
    with counting(build, "caption", 0):
        build.progress.begin(2)(1)
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(unit_progress, "EVERY", 0.0)
    with pytest.raises(ValueError, match="fault"), counting(build, "caption", 0):
        build.progress.begin(2)(1)
        assert live_share(build, "caption", 0, 0.0) == 0.5
        raise ValueError("fault")
    assert not list((tmp_path / "caption").iterdir())


def test_added_columns_count_samples_within_a_shard(copy, built):
    build, _ = copy
    told = []
    add_columns(build.root, {"embed.layers": [0]}, lambda done, total: told.append((done, total)))
    kept = built[1]["kept"]
    assert told[0] == (0, kept) and told[-1] == (kept, kept) and told == sorted(told)
    assert {done for done, _ in told} >= {*range(kept)}
