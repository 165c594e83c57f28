"""Prompts to evaluate by: balanced, true to their pictures, and always the same."""

import json

from PIL import Image

from surd.pipeline.demo import eval_prompts
from surd.pipeline.demo.world.fact_space import GROUPS
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene


def test_every_category_has_its_share_and_no_scene_comes_twice():
    chosen = list(eval_prompts.choose(5000, 7))
    assert {name: sum(row[0] == name for row in chosen) for name in eval_prompts.CATEGORIES} == dict.fromkeys(
        eval_prompts.CATEGORIES, 7
    )
    assert len({index for _, index, _ in chosen}) == len(chosen)
    assert all(eval_prompts.CATEGORIES[category](one) for category, _, one in chosen)


def test_a_line_holds_both_prompts_the_facts_and_the_true_picture(tmp_path):
    assert eval_prompts.write(tmp_path / "prompts.jsonl", 5000, 2) == 12
    lines = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["prompt"].endswith(".") and ", " in line["complex"]
        assert all(value in map(str, GROUPS[group].values) for group, value in line["facts"].items())
        index = int(line["image"].split("/")[1].removesuffix(".png"))
        with Image.open(tmp_path / line["image"]) as picture:
            assert picture.tobytes() == render(scene(5000, index), 64).tobytes()
    assert [line["category"] for line in lines[::2]] == list(eval_prompts.CATEGORIES)


def test_the_same_seed_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        eval_prompts.write(tmp_path / f"{name}/prompts.jsonl", 5000, 2)
    assert (tmp_path / "one/prompts.jsonl").read_bytes() == (tmp_path / "two/prompts.jsonl").read_bytes()
