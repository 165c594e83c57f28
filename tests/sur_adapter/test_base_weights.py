"""A base model is loaded whole and as what it is: never with random weights, never as another kind of pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sur_adapter
from sur_adapter.base_model import load_base, networks
from sur_adapter.stable_diffusion import SURStableDiffusionPipeline, SURStableDiffusionXLPipeline
from surd.schemas.errors import SurdError
from tests.sur_adapter.tiny_sdxl import save_tiny_sdxl

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.mark.parametrize("part", FILES)
def test_a_part_that_lacks_a_weight_names_it(base: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    weights = load_file(folder / part / FILES[part])
    lost = min(weights)
    weights.pop(lost)
    save_file(weights, folder / part / FILES[part], metadata={"format": "pt"})
    with pytest.raises(SurdError, match=rf"the weights of its {part} lack .*{lost.rpartition('.')[2]}, which would be"):
        load_base(str(folder))


def test_weights_in_half_precision_alone_are_read_as_float32(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    for part, name in FILES.items():
        weights = {key: value.half() for key, value in load_file(folder / part / name).items()}
        (folder / part / name).unlink()
        save_file(weights, folder / part / name.replace(".safetensors", ".fp16.safetensors"), metadata={"format": "pt"})
    pipe = load_base(str(folder))
    for part, network in networks(pipe).items():
        assert {weight.dtype for weight in network.parameters()} == {torch.float32}, part
        ours, theirs = network.state_dict(), networks(load_base(str(base)))[part].state_dict()
        assert all(torch.allclose(ours[key], theirs[key], atol=2e-3) for key in theirs)


def test_each_pipeline_says_at_once_that_a_model_is_for_the_other(base: Path, tmp_path: Path) -> None:
    xl = save_tiny_sdxl(str(base), tmp_path / "xl")
    with pytest.raises(SurdError, match=r"StableDiffusionXLPipeline, .* load it with SURStableDiffusionXLPipeline"):
        SURStableDiffusionPipeline.from_pretrained(xl)
    with pytest.raises(SurdError, match=r"StableDiffusionPipeline, .* load it with SURStableDiffusionPipeline"):
        SURStableDiffusionXLPipeline.from_pretrained(base)
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux/model_index.json").write_text(
        '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "F"]}'
    )
    with pytest.raises(SurdError, match=r"FluxPipeline, .* name a Stable Diffusion"):
        SURStableDiffusionPipeline.from_pretrained(tmp_path / "flux")


def test_both_pipelines_are_exported() -> None:
    assert sur_adapter.SURStableDiffusionXLPipeline is SURStableDiffusionXLPipeline
    assert sur_adapter.SURStableDiffusionPipeline is SURStableDiffusionPipeline
