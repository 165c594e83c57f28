"""docs/scale.md shows what docs/scale.py prints, and its arithmetic follows its assumptions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from docs import scale

COSTS: dict[str, Any] = json.loads(scale.COSTS.read_text(encoding="utf-8"))


def test_the_page_is_what_the_script_prints() -> None:
    page = scale.PAGE.read_text(encoding="utf-8")
    assert scale.filled(page, COSTS) == page, "run `python -m docs.scale --write`"


def test_a_table_without_a_place_in_the_page_is_an_error() -> None:
    with pytest.raises(AssertionError, match="measured"):
        scale.filled("no tables", COSTS)


def test_everything_grows_with_the_records() -> None:
    one, ten = scale.plan(1e6, COSTS), scale.plan(1e7, COSTS)
    for kind in ("core_hours", "gpu_hours", "stored"):
        few, many = getattr(one, kind), getattr(ten, kind)
        assert many == pytest.approx({name: 10 * value for name, value in few.items()}) and sum(few.values()) > 0


def test_an_assumption_changes_what_rests_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = scale.plan(1e6, COSTS)
    halved = scale.ASSUMED["selected"].value / 2
    monkeypatch.setitem(scale.ASSUMED, "selected", replace(scale.ASSUMED["selected"], value=halved))
    after = scale.plan(1e6, COSTS)
    assert after.core_hours["pack"] == pytest.approx(before.core_hours["pack"] / 2)
    assert after.core_hours["decode"] == before.core_hours["decode"]
    assert after.gpu_hours["embed: latents"] == pytest.approx(before.gpu_hours["embed: latents"] / 2)


@pytest.mark.parametrize(("value", "shown"), [(0.0123, "0.012"), (9.96, "10"), (123456.0, "120,000"), (10.0, "10")])
def test_figures_have_two_digits(value: float, shown: str) -> None:
    assert scale._round(value) == shown


def test_what_the_page_calls_dear_is_dear() -> None:
    one = scale.plan(1e6, COSTS)
    assert set(sorted(one.core_hours, key=lambda name: one.core_hours[name])[-2:]) == {"safety", "correct"}
    gpu = dict(one.gpu_hours)
    clip = gpu.pop("score") + gpu.pop("correct: CLIP")
    latents = gpu.pop("embed: latents")
    assert latents > clip > max(gpu.values())
    assert latents > sum(one.gpu_hours.values()) / 3
