"""A judge, prompts and an adapter, as small as they can be, for a whole evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from sur_adapter.adapter import SURAdapter
from sur_adapter.evaluation.config import EvalConfig

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
LABELS = ["background:red", "background:blue", "count:1", "count:2"]


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that really tells a red picture from a blue one, and answers "count:1" to everything."""
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    labels = dict(enumerate(LABELS))
    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=labels, label2id={label: place for place, label in labels.items()},
    )  # fmt: skip
    config.accuracy = {"background": 1.0}
    model = ViTForImageClassification(config).eval()
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    processor.save_pretrained(folder)
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in COLOURS.values())
    with torch.no_grad():
        seen = model.vit(processor(images=[red, blue], return_tensors="pt")["pixel_values"]).last_hidden_state[:, 0]
        towards = seen[0] - seen[1]
        model.classifier.weight.zero_()
        model.classifier.weight[0], model.classifier.weight[1] = towards, -towards
        middle = (seen.mean(0) * towards).sum()
        model.classifier.bias.copy_(torch.stack([-middle, middle, torch.tensor(5.0), torch.tensor(0.0)]))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    """Eight prompts with their facts, keywords and true pictures."""
    (tmp_path / "real").mkdir()
    lines = []
    for number in range(8):
        colour = ("red", "blue")[number % 2]
        Image.new("RGB", (32, 32), COLOURS[colour]).save(tmp_path / f"real/{number}.png")
        lines.append({
            "prompt": f"one cat on {colour}",
            "category": ("colour", "counting")[number // 4],
            "facts": {"background": colour, "count": "1"},
            "complex": f"masterpiece, 1 cat, {colour}",
            "image": f"real/{number}.png",
        })  # fmt: skip
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


@pytest.fixture
def asked(base: Path, prompt_file: Path, judge_folder: Path, tmp_path: Path) -> Callable[..., EvalConfig]:
    torch.manual_seed(0)
    adapter = SURAdapter(width=32, heads=4, feed_forward=64, eta=1.0, base_model=str(base))
    torch.nn.init.normal_(adapter.fc.weight)
    adapter.save_pretrained(tmp_path / "adapter")
    defaults = {
        "prompts": prompt_file,
        "adapter": tmp_path / "adapter",
        "judge": str(judge_folder),
        "out": tmp_path / "eval",
        "seeds": 2,
        "steps": 2,
        "device": "cpu",
    }
    return lambda **fields: EvalConfig.model_validate(defaults | fields)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip model with random weights."""
    folder = tmp_path_factory.mktemp("clips") / "clip"
    model = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}}
    model["text_cfg"] = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    _save_clip(folder, model)
    return folder


def _save_clip(folder: Path, model: dict[str, Any]) -> None:
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")
