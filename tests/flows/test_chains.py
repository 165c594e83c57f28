"""Which stages flow, and that a partition goes on to the next stage while others are still fetched."""

import threading
import time

import pytest

import surd.flows.build as build_module
import surd.flows.run_stages as run_stages_module
from surd.flows.build import make_flow
from surd.flows.chains import chains
from surd.flows.listener import Listener
from surd.pipeline.build.folder import Build
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, SurdError

PIXELS = ("fetch", "decode", "clean")
SERVER = "openai:http://127.0.0.1:1/v1#m"


def names(**config):
    return [tuple(stage.name for stage in chain) for chain in chains(BuildConfig(**config))]


@pytest.mark.parametrize(
    ("config", "flowing"),
    [
        ({}, [PIXELS]),
        ({"models": {"device": "cuda"}}, [PIXELS]),
        # The server's answers and this machine's models; correct holds clip and llm anyway.
        (
            {"models": {"captioner": SERVER}, "correct": {"fuse": True}},
            [PIXELS, ("score", "caption", "rewrite", "correct")],
        ),
        ({"models": {"captioner": SERVER}, "runner": "ray"}, [PIXELS]),
        (
            {
                "models": {"devices": {"clip": "cuda:0", "captioner": "cuda:1", "llm": "cuda:2", "vqa": "cuda:0"}},
                "safety": {"enabled": False},
            },
            [PIXELS, ("safety", "score", "caption", "rewrite", "correct")],
        ),
        # The captioner's GPU would hold the LLM too, which no stage needs at once.
        (
            {"models": {"devices": {"clip": "cuda:0", "captioner": "cuda:1", "llm": "cuda:1"}}},
            [PIXELS, ("safety", "score", "caption"), ("rewrite", "correct")],
        ),
    ],
)
def test_stages_flow_where_they_wait_for_different_things_and_hold_no_more_models_at_once(config, flowing):
    every = names(**config)
    assert [chain for chain in every if len(chain) > 1] == flowing
    assert [name for chain in every for name in chain] == [stage.name for stage in STAGES]


class Told(Listener):
    def __init__(self):
        self.events = []

    def stage_started(self, stage, units):
        self.events.append(("started", stage, units))

    def fetching(self, progress):
        assert ("done", "fetch", 2) not in self.events, "what is done makes no progress"

    def stage_done(self, stage, summary):
        self.events.append(("done", stage, summary.units - summary.skipped))


@pytest.fixture
def ran(monkeypatch):
    """(stage, unit) of all that runs; ``ran.before(stage, unit)`` may be set, and is called when one begins."""
    real = run_stages_module.run_unit

    class Ran(list):
        before = staticmethod(lambda stage, unit: None)

    units = Ran()

    def run(stage, unit, root, config, task):
        units.before(stage.name, unit)
        outcome = real(stage, unit, root, config, task)
        units.append((stage.name, unit))
        return outcome

    monkeypatch.setattr(run_stages_module, "run_unit", run)
    return units


def build(out, parameters, upto="clean"):
    """Build the stages up to one of them; what a listener is told."""
    told, stop = Told(), False

    def some(config):
        nonlocal stop
        for chain in chains(config):
            if not stop:
                yield chain
            stop = stop or chain[-1].name == upto

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "chains", some)
        patch.setattr(build_module, "summarize", lambda *_: {"report": ""})
        patch.setattr(build_module, "publish_result", lambda summary: None)
        state = make_flow(told)(out=str(out), **parameters, return_state=True)
    return state, told.events


def test_a_partition_is_cleaned_while_the_next_is_fetched(ran, parameters, tmp_path):
    cleaned = threading.Event()

    def before(stage, unit):
        if (stage, unit) == ("fetch", 1):
            assert cleaned.wait(timeout=60), "clean waits for all of fetch"
        if (stage, unit) == ("decode", 1):
            time.sleep(1.5)  # longer than from one poll to the next

    ran.before = before
    real_append = ran.append
    ran.append = lambda one: (real_append(one), one == ("clean", 0) and cleaned.set())
    state, events = build(tmp_path / "b", parameters)
    assert state.is_completed(), state.message
    assert {one for one in ran if one[0] in PIXELS} == {(stage, unit) for stage in PIXELS for unit in (0, 1)}
    of_chain = [event for event in events if event[1] in PIXELS]
    assert of_chain == [("started", stage, 2) for stage in PIXELS] + [("done", stage, 2) for stage in PIXELS]


def test_what_comes_again_the_same_goes_no_further(ran, parameters, tmp_path):
    out = tmp_path / "b"
    build(out, parameters)
    ran.clear()
    Build(str(out)).remove_marker("fetch", 1)  # fetched again, with the same outcome
    state, events = build(out, parameters)
    assert state.is_completed() and ran == [("fetch", 1)]
    assert [event for event in events if event[0] == "done"][1:] == [
        ("done", "fetch", 1),
        ("done", "decode", 0),
        ("done", "clean", 0),
    ]
    ran.clear()
    build(out, parameters)
    assert ran == []


def test_a_partition_that_fails_goes_no_further_and_its_neighbour_does(ran, parameters, tmp_path):
    def before(stage, unit):
        if (stage, unit) == ("decode", 0):
            raise SurdError("decode is wrong; correct it")

    ran.before = before
    state, events = build(tmp_path / "b", parameters, upto="dedup")
    assert state.is_failed() and state.message == "decode is wrong; correct it"
    assert set(ran) == {("collect", 0), ("fetch", 0), ("fetch", 1), ("decode", 1), ("clean", 1)}
    assert [stage for event, stage, _ in events if event == "done"] == ["collect", "fetch"]
