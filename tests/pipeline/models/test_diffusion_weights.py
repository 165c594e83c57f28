"""The diffusion model's encoders compute in float32 from whole weights, however those are stored."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from surd.pipeline.models import Models
from surd.schemas import SurdError, load_config, resolve_model

DEMO = "package:pipeline/demo/models/diffusion"
TEXTS = ["a red apple", "x " * 200]


def encoders(ref):
    return Models(load_config({}, {"models.diffusion": str(ref), "models.device": "cpu"}).models).diffusion


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(resolve_model(DEMO), tmp_path / "model", ignore=shutil.ignore_patterns("trainings.json"))


def change(file, to, changed):
    weights = changed(load_file(file))
    file.unlink()
    save_file(weights, file.with_name(to), metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["model.safetensors", "model.fp16.safetensors"])
def test_text_states_are_float32_where_the_weights_are_in_half_precision(folder, name):
    file = folder / "text_encoder/model.safetensors"
    change(file, name, lambda weights: {key: value.half() for key, value in weights.items()})
    config = folder / "text_encoder/config.json"
    config.write_text(config.read_text().replace('"float32"', '"float16"'))
    states, _, _ = encoders(folder).text_states(TEXTS)
    expected, _, _ = encoders(DEMO).text_states(TEXTS)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    "file", ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
)  # fmt: skip
def test_a_part_that_lacks_a_weight_names_it(folder, file):
    change(folder / file, (folder / file).name, lambda weights: dict(sorted(weights.items())[1:]))
    with pytest.raises(SurdError, match=r"its weights lack .*, which would be random"):
        encoders(folder)


def test_a_tokenizer_that_does_not_say_how_long_a_text_may_be_is_cut_at_the_models_positions(folder):
    file = folder / "tokenizer/tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings.pop("model_max_length")
    file.write_text(json.dumps(settings))
    states, mask, _ = encoders(folder).text_states(TEXTS)
    expected, expected_mask, _ = encoders(DEMO).text_states(TEXTS)
    torch.testing.assert_close(states, expected)
    assert torch.equal(mask, expected_mask)
