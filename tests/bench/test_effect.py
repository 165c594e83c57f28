"""The benchmark of the effect, on results that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.effect_arms import ARMS, CEILING, FLOOR, OURS
from tests.bench.effect_job import Job
from tests.bench.effect_table import Effect, Outcome

CATEGORIES = ("action", "colour", "counting", "relation", "subject", "style")
PLACES = {name: list(range(40 * at, 40 * at + 40)) for at, name in enumerate(CATEGORIES)}


def outcome(name: str, share: float, runs: int, kid: float) -> Outcome:
    """An arm right in this share of every category's prompts."""
    arm = next(arm for arm in ARMS if arm.name == name)
    scores = np.tile(np.arange(40) < 40 * share, (runs, len(CATEGORIES))).astype(float)
    kernels = [torch.full((240, 240), kid)] * runs
    return Outcome(arm=arm, scores=scores, kernels=kernels, training={}, seconds=1.0)


def effect(ceiling: float, floor: float, ours: float, kid: float = 0.1) -> Effect:
    arms = [outcome(CEILING, ceiling, 1, 0.1), outcome(FLOOR, floor, 1, 0.1), outcome(OURS, ours, 3, kid)]
    return Effect(arms, PLACES, dict.fromkeys(CATEGORIES, 1.0))


def test_the_goal_is_twenty_points_or_half_of_a_smaller_gap():
    goals = {
        (ceiling, floor): next(one for one in effect(ceiling, floor, 0.5).figures() if one.name == "gain_over_base")
        for ceiling, floor in ((0.9, 0.2), (0.9, 0.6), (0.5, 0.6))
    }
    assert [figure.bound for figure in goals.values()] == [0.2, 0.15, 0.0]


def test_a_gain_at_the_price_of_quality_misses():
    met = {one.name: one.met for one in effect(0.9, 0.5, 0.8).figures()}
    worse = {one.name: one.met for one in effect(0.9, 0.5, 0.8, kid=0.2).figures()}
    assert met["gain_over_base"] and met["kid_more_than_base"] and worse["gain_over_base"]
    assert not worse["kid_more_than_base"]


def test_the_document_has_a_row_for_each_arm_and_the_command_that_repeats_it():
    args = {"prompt_seed": 5000, "noise_seeds": 2, "drawing_steps": 20, "guidance_scale": 4.0, "recipe": {"eta": 1.0}}
    text = effect(0.9, 0.5, 0.8).document("make bench-effect", args)
    assert "Written by `make bench-effect`" in text and "3 training seeds" in text and "eta 1.0" in text
    assert "| ours | 80.0 ±" in text and "+30.0 ±" in text and "| base | 50.0 ±" in text


def test_a_job_is_done_until_something_that_decides_its_result_changes(tmp_path: Path):
    (tmp_path / "prompts.jsonl").write_text("{}")
    for name in ("base", "judge"):
        (tmp_path / name).mkdir()
    job = Job(
        arm=ARMS[0], seed=0, shards="", prompts=tmp_path / "prompts.jsonl", training={}, out=tmp_path,
        base=str(tmp_path / "base"), judge=str(tmp_path / "judge"), drawing={"steps": 20},
    )  # fmt: skip
    assert not job.done()
    job.file.write_text(json.dumps({"identity": job.identity()}))
    assert job.done() and not replace(job, drawing={"steps": 10}).done() and not replace(job, training={"lr": 1}).done()
    job.file.write_text("half of a")
    assert not job.done()


def test_every_arm_has_a_name_of_its_own():
    assert len({arm.slug for arm in ARMS}) == len(ARMS)
    assert {CEILING, FLOOR, OURS} <= {arm.name for arm in ARMS}


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.slug)
def test_every_arm_is_a_valid_training(arm):
    from sur_adapter.training.config import TrainConfig
    from tests.bench.effect_arms import RECIPE

    if arm.training is not None:
        settings = (RECIPE if arm.recipe else {}) | dict(arm.training)
        assert TrainConfig.model_validate({"shards": "x", **settings}).shards == "x"
