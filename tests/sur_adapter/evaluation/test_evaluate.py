"""sur-eval: prompt files, judges, intervals, the distance to real pictures, and the whole of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sur_adapter.adapter import SURAdapter
from sur_adapter.cli.evaluate import show
from sur_adapter.evaluation.bootstrap import bootstrap
from sur_adapter.evaluation.config import EvalConfig
from sur_adapter.evaluation.evaluate import evaluate
from sur_adapter.evaluation.judge import FactJudge, load_judge
from sur_adapter.evaluation.kid import kid, paired_kernel
from sur_adapter.evaluation.prompts import EvalPrompt, by_category, read_eval_prompts
from surd.schemas.errors import SurdError
from tests.sur_adapter.tiny_transformers import KINDS, T5_WIDTH, save_tiny_transformer

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def test_a_fact_judge_gives_value_and_probability_of_each_group(judge_folder: Path) -> None:
    judge = FactJudge(str(judge_folder))
    seen, features = judge.classify([Image.new("RGB", (40, 40), colour) for colour in COLOURS.values()])
    assert [one["background"][0] for one in seen] == ["red", "blue"]
    assert all(one["count"][0] == "1" and 0.99 < one["count"][1] < 1 for one in seen)
    assert features.shape == (2, 16) and judge.accuracy == {"background": 1.0}


def test_a_picture_is_right_when_all_facts_of_its_category_are(judge_folder: Path, prompt_file: Path) -> None:
    judge = load_judge(str(judge_folder))
    real = prompt_file.parent / "real/0.png"
    said = [
        EvalPrompt(prompt="x", category="colour", facts={"background": "red", "count": "2"}),
        EvalPrompt(prompt="x", category="counting", facts={"background": "red", "count": "2"}),
        EvalPrompt(prompt="x", facts={"background": "red", "count": "2"}),
    ]
    verdicts, _ = judge([real] * 3, said)
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0, 0.0]
    assert verdicts[0].facts == {"background": True, "count": False}


def test_public_benchmarks_are_read_as_they_are(tmp_path: Path) -> None:
    geneval = {"tag": "color_attr", "include": [{"class": "bench", "count": 1}], "prompt": "a red bench"}
    files = {
        "evaluation_metadata.jsonl": (json.dumps(geneval), "colour", "a red bench"),
        "PartiPrompts.tsv": ("Prompt\tCategory\tChallenge\n3 'cats\tAnimals\tQuantity\n", "counting", "3 'cats"),
        "numeracy_val.txt": ("two boys\n\n", "counting", "two boys"),
        "shape.txt": ("an oblong cucumber\n", "shape", "an oblong cucumber"),
    }
    for name, (text, category, prompt) in files.items():
        (tmp_path / name).write_text(text)
        assert read_eval_prompts(tmp_path / name) == [EvalPrompt(prompt=prompt, category=category)]


def test_a_folder_of_text_files_is_one_prompt_each_and_they_keep_their_names(tmp_path: Path) -> None:
    for name, text in {"stanford8": "Two dogs\nrun.\n", "10": "A cat.", "empty": "\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "README.md").write_text("no prompt")
    found = read_eval_prompts(tmp_path)
    assert [(one.name, one.prompt, one.number) for one in found] == [
        ("10", "A cat.", 0), ("stanford8", "Two dogs run.", 1),
    ]  # fmt: skip
    for file in tmp_path.glob("*.txt"):
        file.unlink()
    with pytest.raises(SurdError, match=r"--prompts: .* holds no prompts; put one into each of its \.txt files"):
        read_eval_prompts(tmp_path)


def test_our_categories_come_first() -> None:
    prompts = [EvalPrompt(prompt="x", category=name) for name in ("shape", "style", "action", "style")]
    assert by_category(prompts) == {"action": [2], "style": [1, 3], "shape": [0]}


def test_an_interval_covers_other_prompts_and_other_seeds() -> None:
    rng = np.random.default_rng(0)
    few = bootstrap(rng.random((1, 100)) < 0.5)
    assert few.low < 0.5 < few.high and 0.15 < few.high - few.low < 0.25  # 1.96 * sqrt(.25 / 100) to either side
    runs = np.repeat([[0.2], [0.5], [0.8]], 1000, axis=1)
    assert bootstrap(runs).high - bootstrap(runs).low > 0.4, "seeds that disagree widen it, whatever the prompts"
    same = bootstrap(np.zeros((3, 50)), np.ones((3, 20)))
    alike = pytest.approx(0.5)
    assert (same.mean, same.low, same.high) == (alike,) * 3, "groups weigh the same, however many prompts they have"


def test_the_distance_is_nought_for_one_distribution_and_grows_with_the_difference() -> None:
    torch.manual_seed(0)
    real, alike = torch.randn(300, 8), torch.randn(2, 300, 8)
    same, shifted = kid(paired_kernel(real, alike)), kid(paired_kernel(real, alike + 1))
    assert same.low < 0 < same.high and shifted.low > same.high
    assert kid(paired_kernel(10 * real, 10 * alike)).mean == pytest.approx(same.mean), "scale is no fact"


def test_an_evaluation_compares_on_the_same_noise_and_says_how_good_the_judge_is(
    asked: Callable[..., EvalConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = asked(complex=True)
    result = evaluate(config)
    assert set(result.categories) == {"colour", "counting"} and result.average.prompts == 8
    assert result.categories["counting"].arms["adapter"].mean == 1.0
    assert result.judge_on_real == {"colour": 1.0, "counting": 1.0} and result.judge_accuracy == {"background": 1.0}
    assert result.facts["count"] == {"base": 1.0, "adapter": 1.0, "complex": 1.0}
    assert json.loads((config.out / "result.json").read_text())["unit"] == "accuracy"
    assert Image.open(config.out / "grid.png").width > 3 * 192
    from rich.console import Console

    show(result, Console(width=100))
    assert "counting" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_model_with_a_transformer_is_evaluated_too(
    asked: Callable[..., EvalConfig], base: Path, tmp_path: Path, kind: str
) -> None:
    folder = save_tiny_transformer(kind, str(base), tmp_path / kind)
    adapter = SURAdapter(width=T5_WIDTH, heads=4, feed_forward=64, eta=1.0, base_model=str(folder))
    torch.nn.init.normal_(adapter.fc.weight)
    adapter.save_pretrained(tmp_path / "of-t5")
    result = evaluate(asked(adapter=tmp_path / "of-t5", seeds=1, steps=1))
    assert result.base == str(folder) and set(result.average.arms) == {"base", "adapter"}
    drawn = [np.asarray(Image.open(tmp_path / f"eval/images/{arm}/00000-0.png")) for arm in ("base", "adapter")]
    assert drawn[0].shape == (32, 32, 3) and not np.array_equal(*drawn)


def test_strength_zero_draws_the_base_models_pictures(asked: Callable[..., EvalConfig]) -> None:
    config = asked(eta=0.0)
    difference = evaluate(config).average.difference
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    base, adapter = (np.asarray(Image.open(config.out / f"images/{arm}/00003-1.png")) for arm in ("base", "adapter"))
    assert np.array_equal(base, adapter)


def test_the_same_command_again_draws_only_what_is_missing(asked: Callable[..., EvalConfig]) -> None:
    config = asked()
    first = evaluate(config)
    kept, lost = config.out / "images/base/00000-0.png", config.out / "images/adapter/00002-1.png"
    before, pixels = kept.stat().st_mtime_ns, np.asarray(Image.open(lost))
    lost.unlink()
    heard: list[tuple[int, int]] = []
    again = evaluate(config, lambda done, total: heard.append((done, total)))
    assert kept.stat().st_mtime_ns == before and heard[-1] == (32, 32)
    assert np.abs(np.asarray(Image.open(lost)).astype(int) - pixels).max() <= 2, "noise depends on no batch"
    assert again.model_dump(exclude={"seconds", "kid"}) == first.model_dump(exclude={"seconds", "kid"})
    evaluate(asked(seeds=3))  # more seeds are no other run


def test_a_result_is_replaced_only_with_overwrite(asked: Callable[..., EvalConfig]) -> None:
    config = asked(limit=1, seeds=2)
    evaluate(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    for fields in ({"seeds": 1}, {"complex": True}, {"steps": 3}):
        with pytest.raises(SurdError, match=f"of another {next(iter(fields))}; name another folder, or .*--overwrite"):
            evaluate(asked(**{"limit": 1, "seeds": 2} | fields))
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before
    assert evaluate(asked(limit=1, seeds=1, overwrite=True)).seeds == 1
    (config.out / "run.json").unlink()
    with pytest.raises(SurdError, match=r"no run\.json"):
        evaluate(config)


def test_pictures_of_another_run_are_never_judged(asked: Callable[..., EvalConfig]) -> None:
    evaluate(asked(limit=1, seeds=1))
    with pytest.raises(SurdError, match=r"--out: .* holds pictures of another steps; name another folder"):
        evaluate(asked(limit=1, seeds=1, steps=3))


def test_a_clip_judge_scores_prompts_without_facts(
    asked: Callable[..., EvalConfig], tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "color_val.txt").write_text("red cat\nblue dog\n")
    monkeypatch.chdir(clip_folder.parent.parent)
    ref = f"clip:{clip_folder.relative_to(clip_folder.parent.parent)}"
    result = evaluate(asked(prompts=tmp_path / "color_val.txt", judge=ref))
    assert result.unit == "CLIP score" and set(result.categories) == {"colour"} and result.kid is None


def test_a_judge_that_lacks_a_weight_names_it(judge_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(judge_folder, tmp_path / "judge")
    weights = load_file(folder / "model.safetensors")
    weights.pop("classifier.bias")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SurdError, match=r"lack classifier\.bias, which would be random"):
        load_judge(str(folder))


def test_mistakes_are_one_sentence(asked: Callable[..., EvalConfig], tmp_path: Path, judge_folder: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "plain.txt").write_text("a cat\n")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    (tmp_path / "odd.jsonl").write_text('{"prompt": "a", "category": "colour", "facts": {"background": "mauve"}}\n')
    for name, row in {
        "number.jsonl": {"prompt": "a", "category": 5},
        "complex.jsonl": {"prompt": "a", "complex": ["b"]},
        "gone.jsonl": {"prompt": "a", "image": "no/where.png"},
    }.items():
        (tmp_path / name).write_text(json.dumps(row))
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"prompts": tmp_path / "number.jsonl"}, r"line 1 of .*category is 5, not text"),
        ({"prompts": tmp_path / "complex.jsonl"}, r"line 1 of .*complex is \['b'\], not text"),
        ({"prompts": tmp_path / "gone.jsonl"}, r"line 1 of .*its image .* is missing"),
        ({"judge": "clip:ViT-B-32"}, r"--judge clip is 'ViT-B-32': this names a model without its weights"),
        ({"prompts": tmp_path / "gone"}, r"--prompts: .*gone' cannot be read"),
        ({"prompts": tmp_path / "empty.txt"}, r"holds no prompts"),
        ({"prompts": tmp_path / "bad.jsonl"}, r"line 2 of .* is not a valid prompt"),
        ({"prompts": tmp_path / "plain.txt"}, r"states no fact .* use --judge clip:NAME"),
        ({"prompts": tmp_path / "odd.jsonl"}, r"states background 'mauve', which the judge does not know"),
        ({"judge": str(tmp_path)}, r"--judge: .* cannot be loaded"),
        ({"judge": "clip:no-such-model"}, r"--judge clip is 'no-such-model': open_clip has no model of that name"),
        ({"judge": f"clip:{judge_folder}"}, r"has no open_clip_config\.json"),
        ({"quality": ["musiq"]}, r"--quality: 'musiq' is neither brisque nor clip-iqa, and pyiqa, .* is not installed"),
        ({"quality": ["clip-iqa"]}, r"--quality: 'clip-iqa' names no model, and --judge is not a clip judge; write"),
        ({"quality": ["clip-iqa:RN50"]}, r"--quality clip-iqa is 'RN50': this names a model without its weights"),
        ({"quality": [f"clip-iqa:{judge_folder}"]}, r"--quality: clip-iqa:.* has no open_clip_config\.json"),
        ({"judge": f"vqa:{judge_folder}"}, r"--judge: 'vqa:.*' cannot be loaded .*says 'vit'"),
        (
            {"judge": "vqa:no/such/folder"},
            r"--judge: 'vqa:.*there is no such folder.*write vqa: and the folder or hub id",
        ),
        ({"adapter": tmp_path}, r"--adapter: .* holds no config.json"),
    ]
    if not torch.cuda.is_available():
        mistakes.append(({"device": "cuda"}, r"--device: 'cuda' needs a GPU"))
    for fields, sentence in mistakes:
        with pytest.raises(SurdError, match=sentence):
            evaluate(asked(**fields))
    assert not list(tmp_path.rglob("eval/images/*")), "a mistake is found before a picture is drawn"


def test_a_picture_that_cannot_be_read_is_named(asked: Callable[..., EvalConfig], tmp_path: Path) -> None:
    evaluate(asked(limit=1))
    spoilt = tmp_path / "eval/images/base/00000-0.png"
    spoilt.write_bytes(b"no picture")
    with pytest.raises(SurdError, match=r"base/00000-0.png: the picture cannot be read .* remove it"):
        evaluate(asked(limit=1))
    spoilt.unlink()
    evaluate(asked(limit=1))
    (tmp_path / "eval/run.json").write_text("[]")
    with pytest.raises(
        SurdError, match=r"--out: .* cannot be used \(run.json is not a record of a run\); name another folder"
    ):
        evaluate(asked(limit=1))
