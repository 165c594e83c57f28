"""sur-eval --quality: BRISQUE, and CLIP-IQA by the model that is named or the judge's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from rich.console import Console

from sur_adapter.cli.evaluate import show
from sur_adapter.evaluation.config import EvalConfig
from sur_adapter.evaluation.evaluate import evaluate
from sur_adapter.evaluation.image_quality import load_image_metric
from surd.pretrained.brisque import brisque
from surd.schemas.errors import SurdError


def test_the_table_has_a_row_for_each_metric(
    asked: Callable[..., EvalConfig], clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = asked(quality=["brisque", "clip-iqa"], judge=f"clip:{clip_folder}", limit=2)
    result = evaluate(config)
    assert set(result.quality) == {"brisque", "clip-iqa"} and result.quality["clip-iqa"].prompts == 4
    pictures = [Image.open(config.out / f"images/base/{index:05}-{seed}.png") for index in range(4) for seed in (0, 1)]
    scores = [brisque(picture) for picture in pictures]
    assert result.quality["brisque"].arms["base"].mean == pytest.approx(np.mean(scores))
    assert 0 < result.quality["clip-iqa"].arms["adapter"].mean < 1
    show(result, Console(width=100))
    said = capsys.readouterr().out
    assert "brisque" in said and "clip-iqa" in said


def test_clip_iqa_is_p_good_of_the_named_model(clip_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(file)
    rated = load_image_metric(f"clip-iqa:{clip_folder}")(np.array([files], dtype=object))
    model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["Good photo.", "Bad photo."])
    with torch.no_grad():
        pixels = torch.stack([prepare(Image.open(file)) for file in files])
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)
        odds = (model.logit_scale.exp() * image @ text.T).softmax(-1)[:, 0]
    assert rated.shape == (1, 3) and rated[0] == pytest.approx(odds.numpy(), abs=1e-5)


def test_prompts_of_which_a_picture_cannot_be_measured_are_left_out(asked: Callable[..., EvalConfig]) -> None:
    config = asked(limit=2, seeds=1)
    evaluate(config)
    Image.new("RGB", (32, 32), "red").save(config.out / "images/adapter/00001-0.png")
    result = evaluate(asked(limit=2, seeds=1, quality=["brisque"], overwrite=True))
    assert result.quality["brisque"].prompts == 3 and np.isfinite(result.quality["brisque"].difference.mean)
    for file in (config.out / "images/base").glob("*.png"):
        Image.new("RGB", (32, 32), "red").save(file)
    assert evaluate(asked(limit=2, seeds=1, quality=["brisque"])).quality == {}


def test_without_the_models_package_nothing_is_drawn(
    asked: Callable[..., EvalConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise SurdError("quality brisque: its model comes with the package brisque, which is not installed")

    monkeypatch.setattr("sur_adapter.evaluation.image_quality.load_brisque", missing)
    with pytest.raises(SurdError, match="which is not installed"):
        evaluate(config := asked(quality=["brisque"]))
    assert not (config.out / "images").exists()
