"""sur-eval --judge vqa: the embedded VQA model judges pictures of the demo world, and what it cannot read is said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sur_adapter.evaluation.config import EvalConfig
from sur_adapter.evaluation.evaluate import evaluate
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.prompts import EvalPrompt
from sur_adapter.evaluation.vqa_judge import question
from surd.schemas.errors import SurdError

DEMO_VQA = "vqa:package:pipeline/demo/models/vqa"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[EvalPrompt]:
    """Scenes of the demo world that no training used, with their pictures."""
    from surd.pipeline.demo.world.prompts import narrative
    from surd.pipeline.demo.world.render import render
    from surd.pipeline.demo.world.scenes import scene

    folder = tmp_path_factory.mktemp("scenes")
    prompts = []
    for number in range(30):
        render(one := scene(5000, number), 64).save(folder / f"{number}.png")
        prompts.append(EvalPrompt(prompt=narrative(one, random.Random(number)), image=folder / f"{number}.png"))
    return prompts


def test_a_picture_scores_higher_with_its_own_prompt_than_with_another(scenes: list[EvalPrompt]) -> None:
    judge = load_judge(DEMO_VQA)
    judge.check(scenes)
    files = [one.image for one in scenes if one.image]
    own, features = judge(files, scenes)
    others, _ = judge(files, [*scenes[7:], *scenes[:7]])
    right, wrong = (np.array([verdict.score for verdict in verdicts]) for verdicts in (own, others))
    assert (right >= 0).all() and (right <= 1).all() and features is None
    assert (right > wrong).mean() > 0.75, "chance is 0.5"


def test_an_evaluation_by_the_embedded_model(asked: Callable[..., EvalConfig]) -> None:
    result = evaluate(asked(judge=DEMO_VQA, limit=1))
    assert (
        result.unit == "VQA score" and result.kid is None and set(result.judge_on_real or {}) == {"colour", "counting"}
    )
    stored = json.loads((asked().out / "result.json").read_text())
    assert stored["judge"] == DEMO_VQA and 0 <= stored["average"]["arms"]["base"]["mean"] <= 1


def test_a_prompt_that_is_too_long_is_found_before_a_picture_is_drawn(
    asked: Callable[..., EvalConfig], tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text("a cat\n" + "a dog and " * 400 + "a cat\n")
    config = asked(prompts=tmp_path / "long.txt", judge=DEMO_VQA)
    with pytest.raises(SurdError, match=r"--judge: 'vqa:.*' cannot read a prompt of 4,005 characters"):
        evaluate(config)
    assert not (config.out / "images").exists()


def test_the_question_holds_the_prompt_without_its_stop() -> None:
    assert question("A red cat sits on a mat. ") == "Does this picture show A red cat sits on a mat?"
