"""bench-gpu: its shapes are the published ones, and all of it runs without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from sur_adapter.base_model import load_base, pooled_width, text_width
from surd.pipeline.models import captioner, transformers_clip
from surd.pretrained import language_model
from tests.bench.gpu import main
from tests.bench.random_models import REAL, random_weights, save_captioner, save_clip, save_diffusion, save_llm

WAYS = ("clip_pictures", "clip_texts", "captioner", "llm_states", "train_sd15_columns", "train_sd15_on_the_fly",
        "train_sdxl_columns", "train_sdxl_on_the_fly")  # fmt: skip


def test_every_way_runs_on_tiny_shapes_and_gives_what_the_bare_loop_gives(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--tiny"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = result["figures"]
    assert [name for name in figures if name.endswith("_time_to_bare")] == [f"{way}_time_to_bare" for way in WAYS]
    assert all(figures[f"{way}_time_to_bare"]["value"] > 0 for way in WAYS)
    assert all(figures[f"{way}_difference_to_bare"]["met"] for way in WAYS[:3])
    assert result["met"] == (code == 0) == all(figure["met"] for figure in figures.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_real_shapes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--tiny" in capsys.readouterr().err


def test_shapes_are_those_of_the_published_models(tmp_path: Path) -> None:
    with random_weights(torch.device("meta")):
        counts = {
            "clip": transformers_clip.load_weights(AutoModel, save_clip(tmp_path / "clip", REAL)),
            "captioner": captioner.load_weights(
                AutoModelForImageTextToText, save_captioner(tmp_path / "captioner", REAL)
            ),
            "llm": language_model.load_weights(AutoModelForCausalLM, save_llm(tmp_path / "llm", REAL)),
        }
        bases = {name: load_base(save_diffusion(tmp_path / name, name, REAL), "meta") for name in ("sd15", "sdxl")}
    counts |= {name: pipe.unet for name, pipe in bases.items()}
    millions = {name: sum(weight.numel() for weight in one.parameters()) // 10**6 for name, one in counts.items()}
    # LLaMA has 6,738 million with its own vocabulary of 32,000 tokens; BLIP-2 with OPT 2.7B 3,745.
    assert millions == {"clip": 427, "captioner": 3744, "llm": 6881, "sd15": 859, "sdxl": 2567}
    assert (text_width(bases["sdxl"]), pooled_width(bases["sdxl"])) == (2048, 1280)
