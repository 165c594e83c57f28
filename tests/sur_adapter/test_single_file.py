"""A single-file checkpoint serves wherever a folder does: training, columns, drawing, the pipelines with adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sur_adapter import SURStableDiffusionPipeline, SURStableDiffusionXLPipeline
from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_prompts, load_base
from sur_adapter.sampling.config import GenerateConfig
from sur_adapter.sampling.generate import generate
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from tests.pretrained.checkpoints import tiny_pipeline, write_checkpoint

SIZE = {"modelspec.resolution": "32x32"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {
        kind: write_checkpoint(tiny_pipeline(kind), folder / f"{kind}.safetensors", metadata=SIZE)
        for kind in ("1", "xl")
    }


@pytest.mark.parametrize("kind", ["1", "xl"])
def test_a_training_on_a_single_file_gives_an_adapter_that_draws(
    kind: str, files: dict[str, Path], build: Any, config: Callable[..., Any], tmp_path: Path
) -> None:
    build.base = files[kind]
    build.write().add_columns("latents", "clip-simple", "clip-complex")
    result = train(config(steps=2, w_llm=0), warn=pytest.fail)
    assert (result.base, result.computed) == (str(files[kind]), [])
    out = tmp_path / "picture.png"
    generate(GenerateConfig(adapter=tmp_path / "run", prompt=["a red cat"], out=out, steps=1, device="cpu"))
    assert Image.open(out).size == (32, 32)


def test_the_pipeline_with_adapter_loads_a_single_file(files: dict[str, Path]) -> None:
    adapter = SURAdapter(width=64, heads=4, feed_forward=64, eta=1.0).eval()
    torch.nn.init.normal_(adapter.fc.weight)
    pipe = SURStableDiffusionPipeline.from_pretrained(files["1"], adapter=adapter)
    adapted, negative = pipe.encode_prompt("a cat", "cpu", 1, True)
    encoded = encode_prompts(load_base(str(files["1"])), ["a cat", ""])
    torch.testing.assert_close(adapted, adapter(encoded.states[:1], encoded.mask[:1]).states)
    torch.testing.assert_close(negative, encoded.states[1:])
    half = SURStableDiffusionPipeline.from_pretrained(files["1"], adapter=adapter, torch_dtype=torch.bfloat16)
    drawn = half("a cat", num_inference_steps=1, output_type="np").images
    assert drawn.shape == (1, 32, 32, 3) and np.isfinite(drawn).all()


def test_the_other_pipeline_and_an_adapter_of_the_other_width_are_named(files: dict[str, Path]) -> None:
    with pytest.raises(SurdError, match=r"xl\.safetensors': it is a StableDiffusionXLPipeline, .* with SURStable"):
        SURStableDiffusionPipeline.from_pretrained(files["xl"])
    adapter = SURAdapter(width=2048, heads=4, depth=1, feed_forward=8, base_model="stabilityai/sdxl")
    with pytest.raises(SurdError, match=r"1\.safetensors' has text states 64 wide, .* 'stabilityai/sdxl', 2048 wide"):
        SURStableDiffusionPipeline.from_pretrained(files["1"], adapter=adapter)
    with pytest.raises(SurdError, match=r"base is '.*1\.safetensors': it is a StableDiffusionPipeline, which SUR"):
        SURStableDiffusionXLPipeline.from_pretrained(files["1"])
