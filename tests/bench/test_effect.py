"""The benchmark of the effect, on results that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sur_adapter.training.config import TrainConfig
from tests.bench.effect_arms import (
    ARMS,
    ATTACH,
    ATTACH_NO_LLM,
    CEILING,
    COMPARISONS,
    FLOOR,
    GOALS,
    OURS,
    RECIPE,
    TRANSLATE,
    TRANSLATE_TEXT,
    Arm,
    Comparison,
)
from tests.bench.effect_scores import Effect, Outcome, Tier
from tests.bench.effect_table import categories, differences, document, overview

CATEGORIES = ("action", "colour", "counting", "relation", "subject", "style")
PLACES = {name: list(range(40 * at, 40 * at + 40)) for at, name in enumerate(CATEGORIES)}
ARGS: dict[str, Any] = {
    "prompt_seed": 5000, "noise_seeds": 2, "drawing_steps": 20, "guidance_scale": 4.0, "recipe": {"eta": 1.0},
}  # fmt: skip


def outcome(name: str, shares: dict[str, float], seeds: tuple[int, ...] = (0,), kid: float = 0.1) -> Outcome:
    """An arm right in this share of every category's prompts, by tier."""
    arm = next((arm for arm in ARMS if arm.name == name), None)
    arm = arm or Arm(name=name, training={} if len(seeds) > 1 else None)
    scores = {
        tier: np.tile(np.arange(40) < 40 * share, (len(seeds), len(CATEGORIES))).astype(float)
        for tier, share in shares.items()
    }
    kernels = {tier: torch.full((240, 240), kid) for tier in shares}
    return Outcome(arm=arm, seeds=seeds, scores=scores, kernels=kernels, weights=1234)


def effect(*outcomes: Outcome) -> Effect:
    return Effect(outcomes, {tier: Tier(places=PLACES) for tier in outcomes[0].scores})


def figures(result: Effect) -> dict[str, bool]:
    return {one.name: one.met for one in result.figures()}


def test_a_goal_is_on_its_own_tier():
    base, without = {"a": 0.2, "b": 0.2, "c": 0.2}, {"a": 0.5, "b": 0.5, "c": 0.5}
    seeds = (0, 1, 2)
    met = figures(
        effect(
            outcome(FLOOR, base),
            outcome(TRANSLATE, {"a": 0.5, "b": 0.3, "c": 0.65}, seeds),
            outcome(TRANSLATE_TEXT, without, seeds),
        )
    )
    assert met["c: translate - base"] and met["c: translate - translate, no LLM"] and met["a: gain_over_base"]
    assert not met["b: translate - base"] and "c: translate - translate, random LLM" not in met


def test_a_gain_at_the_price_of_quality_misses():
    for kid, is_met in ((0.1, True), (0.2, False)):
        met = figures(effect(outcome(FLOOR, {"a": 0.5}), outcome(OURS, {"a": 0.8}, (0, 1, 2), kid)))
        assert met["a: gain_over_base"] and met["a: kid_more_than_base"] is is_met


def test_a_tier_has_the_mean_of_four_categories_and_a_table_of_six():
    scores = np.zeros((1, 240))
    scores[:, PLACES["relation"] + PLACES["style"]] = 1  # not in the mean
    scores[:, PLACES["counting"]] = 1
    mixed = Outcome(arm=Arm(name=FLOOR), seeds=(0,), scores={"c": scores}, kernels={})
    result = effect(mixed)
    assert overview(result)[1][:2] == ("base", "25.0 ± 0.0")
    assert categories(result, "c")[0] == ("arm", *CATEGORIES, "KID x1000")
    assert categories(result, "c")[1] == ("base", *(f"{v}.0 ± 0.0" for v in (0, 0, 100, 100, 0, 100)), "")


def test_a_difference_is_of_the_seeds_that_both_arms_have():
    one = outcome("one", {"a": 0.0}, (0, 1, 2))
    one.scores["a"][:] = np.array([0.5, 0.7, 0.9])[:, None]
    other = outcome("other", {"a": 0.0}, (2, 0))
    other.scores["a"][:] = np.array([0.8, 0.4])[:, None]
    result = effect(one, other, outcome(FLOOR, {"a": 0.0}))
    paired = result.difference("one", "other", "a")
    assert paired.mean == pytest.approx(0.1) and paired.high - paired.low < 1e-9  # unpaired: 0.1 to 0.5 wide
    assert result.difference("one", FLOOR, "a").mean == pytest.approx(0.7)
    assert not effect(one, outcome("two", {"a": 0.0}, (7, 8))).has(Comparison("one", "two"))


def test_differences_have_a_row_where_both_arms_were_run():
    seeds = (0, 1, 2)
    result = effect(
        outcome(FLOOR, {"b": 0.5, "c": 0.2}),
        outcome(ATTACH, {"b": 0.5, "c": 0.7}, seeds),
        outcome(ATTACH_NO_LLM, {"b": 0.6, "c": 0.3}, seeds),
    )
    head, *rows = differences(result)
    assert head == ("difference", "b", "c") and [row[0] for row in rows] == [
        "attach - base",
        "attach - attach, no LLM",
    ]
    assert rows[1][1].startswith("-10.0 ±") and rows[1][2].startswith("+40.0 ±")


def test_the_document_has_every_table_and_the_command_that_repeats_it():
    shares = {"a": 0.5, "c": 0.2}
    text = document(
        effect(
            outcome(CEILING, {"a": 0.9, "c": 0.9}),
            outcome(FLOOR, shares),
            outcome(OURS, {"a": 0.8, "c": 0.2}, (0, 1, 2)),
        ),
        "make bench-effect",
        ARGS,
    )
    assert "Written by `make bench-effect`" in text and "3 training seeds" in text and "eta 1.0" in text
    assert "| ours | 80.0 ±" in text and "+30.0 ±" in text and "| base | 50.0 ±" in text
    assert "Tier c, by category" in text and "| ours | 1,234 | 3 |" in text and "| complex_action | 0.900 |" in text


def test_every_arm_has_a_name_of_its_own():
    assert len({arm.slug for arm in ARMS}) == len(ARMS)
    assert {CEILING, FLOOR, OURS} <= {arm.name for arm in ARMS}
    assert all(one.goal > 0 and one.tier in "abcde" for one in GOALS) and len(set(COMPARISONS)) == len(COMPARISONS)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.slug)
def test_every_arm_is_a_valid_training(arm):
    if arm.training is not None:
        settings = (RECIPE if arm.recipe else {}) | dict(arm.training)
        assert TrainConfig.model_validate({"shards": "x", **settings}).shards == "x"


@pytest.mark.parametrize(
    "fields", [{"kind": "adapter"}, {"kind": "lora-unet", "training": {}}, {"training": {}, "weights": 4}]
)
def test_an_arm_that_cannot_be_made_is_refused(fields):
    with pytest.raises(ValueError, match="odd"):
        Arm(name="odd", **fields)


def test_the_column_of_an_arm_follows_from_what_it_trains():
    assert Arm(name="x", training={}).column_suffix({}) == "l15"
    assert Arm(name="x", training={}).column_suffix({"llm_targets": "tokens"}) == "l15-tokens"
    assert Arm(name="x", training={}).column_suffix({"w_llm": 0.0}) is None
    assert (
        Arm(name="x", training={}, column="all-layers").column_suffix({"w_llm": 0, "llm_role": "attach"})
        == "all-layers"
    )
    assert Arm(name="x", training={}, llm=None).column_suffix({"llm_role": "attach"}) is None
