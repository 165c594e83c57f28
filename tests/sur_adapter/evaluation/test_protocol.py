"""sur-eval --protocol: folders that the scorers of GenEval, T2I-CompBench and DPG-Bench find what they read in.

What a scorer does with file names is done here as its code does it (see ``sur_adapter.evaluation.protocol``).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sur_adapter.cli import evaluate as evaluate_cli
from sur_adapter.evaluation.config import EvalConfig
from sur_adapter.evaluation.evaluate import evaluate
from surd.schemas.errors import SurdError

GENEVAL = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 2}], "exclude": [], "prompt": "a photo of two cows"},
    {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a photo of a cow"},
]


def pixels(file: Path) -> Any:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def protocol(asked: Callable[..., EvalConfig], clip_folder: Path) -> Callable[..., EvalConfig]:
    return lambda **fields: asked(judge=f"clip:{clip_folder}", steps=1, **fields)


def test_geneval_finds_each_line_and_its_pictures(protocol: Callable[..., EvalConfig], tmp_path: Path) -> None:
    (tmp_path / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GENEVAL))
    config = protocol(prompts=tmp_path / "evaluation_metadata.jsonl", protocol="geneval", limit=1, seeds=2)
    result = evaluate(config)
    for arm in ("base", "adapter"):
        folder = config.out / "geneval" / arm
        assert sorted(item.name for item in folder.iterdir()) == ["00000", "00001"], "the lines' own numbers"
        for place, number in enumerate((0, 1)):
            item = folder / f"{number:05}"
            assert json.loads((item / "metadata.jsonl").read_text()) == GENEVAL[number]
            names = sorted(file.name for file in (item / "samples").iterdir())
            assert names == ["0000.png", "0001.png"] and all(re.match(r"\d+\.png", name) for name in names)
            for seed in (0, 1):
                drawn = pixels(config.out / f"images/{arm}/{place:05}-{seed}.png")
                assert np.array_equal(pixels(item / f"samples/{seed:04}.png"), drawn)
    assert result.protocol and Path(result.protocol["base"].folder) == (config.out / "geneval/base").resolve()


def test_compbench_finds_prompt_and_order_in_the_names_and_more_pictures_take_the_place_of_fewer(
    protocol: Callable[..., EvalConfig], tmp_path: Path
) -> None:
    prompts = ["a green bench and a blue bowl", "A red cat. A dog"]
    (tmp_path / "color_val.txt").write_text("\n".join(prompts))
    fields = {"prompts": tmp_path / "color_val.txt", "protocol": "t2i-compbench"}
    config = protocol(**fields, seeds=1)
    evaluate(config)
    folder = config.out / "t2i-compbench/adapter"
    (folder / "annotation_blip").mkdir()
    result = evaluate(protocol(**fields, seeds=2))
    names = [file.name for file in (folder / "samples").iterdir()]
    names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
    assert [name.split("_")[0] for name in names] == [prompts[0]] * 2 + [prompts[1]] * 2
    assert [int(name.split("_")[1].split(".")[0]) for name in names] == [0, 1, 2, 3]
    assert np.array_equal(pixels(folder / "samples" / names[3]), pixels(config.out / "images/adapter/00001-1.png"))
    assert (folder / "annotation_blip").is_dir(), "what a scorer wrote stays"
    assert result.protocol and "BLIP_vqa.py" in " ".join(result.protocol["adapter"].commands)
    assert "UniDet" not in " ".join(result.protocol["adapter"].commands), "colour is BLIP's"


def test_dpg_bench_finds_grids_named_by_item(protocol: Callable[..., EvalConfig], tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("stanford8", "10"):
        (folder / f"{name}.txt").write_text(f"A long description of {name}. " * 9)
    config = protocol(prompts=folder, protocol="dpg", seeds=3)
    result = evaluate(config)
    laid = config.out / "dpg/base"
    assert sorted(file.name for file in laid.iterdir()) == ["10.png", "stanford8.png"], "no other file"
    assert result.protocol
    (command,) = result.protocol["base"].commands
    resolution, count = (int(re.search(rf"--{flag} (\d+)", command)[1]) for flag in ("resolution", "pic-num"))  # type: ignore[index]
    boxes = [(0, 0), (resolution, 0), (0, resolution), (resolution, resolution)][:count]
    with Image.open(laid / "stanford8.png") as grid:
        for seed, (left, top) in enumerate(boxes):
            part = np.asarray(grid.crop((left, top, left + resolution, top + resolution)))
            assert np.array_equal(part, pixels(config.out / f"images/base/00001-{seed}.png"))
    assert count == 3


@pytest.mark.parametrize(("name", "pictures"), [("geneval", 4), ("t2i-compbench", 10), ("dpg", 4), (None, 3)])
def test_the_number_of_pictures_is_the_benchmarks_own_where_none_is_given(name: str | None, pictures: int) -> None:
    assert EvalConfig.model_validate({"prompts": "p", "adapter": "a", "protocol": name}).seeds == pictures
    assert EvalConfig.model_validate({"prompts": "p", "adapter": "a", "protocol": name, "seeds": 2}).seeds == 2


def test_what_a_scorer_could_not_read_is_refused_before_a_picture_is_drawn(
    protocol: Callable[..., EvalConfig], tmp_path: Path
) -> None:
    files = {
        "plain.jsonl": '{"prompt": "a cat"}\n',
        "slash.txt": "a cat\nblack/white cat\n",
        "under.txt": "a_cat\n",
        "long.txt": "a very " * 60 + "red cat\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "dpg").mkdir()
    (tmp_path / "dpg/1.txt").write_text("a cat")
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"protocol": "geneval", "prompts": tmp_path / "plain.jsonl"}, r"prompt 1 of .* has no tag and include"),
        ({"protocol": "geneval", "prompts": tmp_path / "slash.txt"}, r"prompt 1 of .* has no tag and include"),
        ({"protocol": "t2i-compbench", "prompts": tmp_path / "slash.txt"}, r"prompt 2 of .*white cat'\) has a '/'"),
        ({"protocol": "t2i-compbench", "prompts": tmp_path / "under.txt"}, r"prompt 1 of .* has a '_'"),
        ({"protocol": "t2i-compbench", "prompts": tmp_path / "long.txt"}, r"prompt 1 of .* has 427 characters"),
        ({"protocol": "dpg", "prompts": tmp_path / "slash.txt"}, r"prompt 1 of .* has no item id"),
        ({"protocol": "dpg", "prompts": tmp_path / "dpg", "seeds": 5}, r"--seeds is 5: DPG-Bench scores at most 4"),
    ]
    for fields, sentence in mistakes:
        with pytest.raises(SurdError, match=sentence):
            evaluate(protocol(**fields))
    assert not list(tmp_path.rglob("eval/images"))


def test_the_command_says_whose_figures_these_are_and_how_to_get_the_benchmarks(
    protocol: Callable[..., EvalConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "evaluation_metadata.jsonl").write_text(json.dumps(GENEVAL[0]))
    config = protocol(prompts=tmp_path / "evaluation_metadata.jsonl", protocol="geneval")
    flags = ["--prompts", config.prompts, "--adapter", config.adapter, "--out", config.out, "--judge", config.judge]
    more = ["--protocol", "geneval", "--steps", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["sur-eval", *map(str, flags), *more])
    with pytest.raises(SystemExit) as stop:
        evaluate_cli.main()
    said = capsys.readouterr().out
    assert not stop.value.code and "4 seeds a prompt" in said
    assert "These figures are the judge's, not GenEval's." in said
    assert f'python evaluation/evaluate_images.py "{(config.out / "geneval/adapter").resolve()}"' in said
    assert len(list((config.out / "geneval/base/00000/samples").iterdir())) == 4
