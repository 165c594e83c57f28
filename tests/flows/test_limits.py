"""Builds on one Prefect server share its concurrency limits, and need none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency

import surd.flows.run_stages as run_stages_module
from surd.flows.limits import GPU, slots, uses_gpu
from surd.flows.windows import run_windows
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import Planner, StagePlan, UnitTask
from surd.pipeline.runner.run_unit import Outcome
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig

DONE = Outcome(stage="clean", unit=0, skipped=False, rows=0, seconds=0.0)


def create_limit(name):
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1, active=True))


SCORE = [BY_NAME["score"]], BuildConfig(models={"device": "cuda"})


def most_at_once():
    """How many of two builds on a GPU were at work at once, each with one window of one unit."""
    present, at_once, both = 0, 0, threading.Barrier(2)
    units = ThreadPoolExecutor(2)

    def unit():
        nonlocal present, at_once
        present += 1
        at_once = max(at_once, present)
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=5)
        present -= 1
        return DONE

    def journey(_):
        yield units.submit(unit)

    @flow
    def build():
        run_windows("clean", [0], journey, slots=partial(slots, *SCORE))

    builds = [threading.Thread(target=build) for _ in range(2)]
    for one in builds:
        one.start()
    for one in builds:
        one.join()
    return at_once


def test_two_builds_share_the_limit_of_gpus_and_without_one_nothing_waits_or_warns(caplog):
    assert most_at_once() == 2
    assert not [entry for entry in caplog.records if GPU in entry.getMessage()]
    create_limit(GPU)
    assert most_at_once() == 1


def test_a_stage_waits_for_a_slot_of_its_own_limit(tmp_path, monkeypatch):
    create_limit("surd-clean")
    began = threading.Event()
    monkeypatch.setattr(run_stages_module, "_run_unit", lambda *_: began.set() or DONE)

    @flow
    def build():
        task = UnitTask(unit=0, parts=1, fingerprint="", marked=False)
        planner = Planner(Build(str(tmp_path)), BuildConfig())
        planner.plan = lambda *_: StagePlan(done={}, tasks=[task])
        with run_stages_module.unit_runner(planner.config) as runner:
            return len(run_stages_module.run_stages([BY_NAME["clean"]], planner, runner, []))

    with ThreadPoolExecutor(1) as thread:
        with concurrency("surd-clean", strict=True):
            running = thread.submit(build)
            assert not began.wait(3)
        assert running.result(timeout=60) == 1 and began.is_set()


@pytest.mark.parametrize(
    ("stage", "models", "on_gpu"),
    [
        ("fetch", {"device": "cuda"}, False),
        ("score", {"device": "cuda:1"}, True),
        ("score", {"device": "cpu"}, False),
        ("score", {"device": "cuda", "devices": {"clip": "cpu"}}, False),
        ("caption", {"device": "cuda", "captioner": "openai:http://127.0.0.1:1/v1#m"}, False),
    ],
)
def test_only_a_stage_whose_model_is_on_a_gpu_holds_one(stage, models, on_gpu):
    assert uses_gpu(BY_NAME[stage], BuildConfig(models=models)) == on_gpu
