"""The diffusion model's encoders compute in float32 from whole weights, however those are stored."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from surd.pipeline.models import Models
from surd.schemas import SurdError, load_config, resolve_model
from surd.schemas.model_ref import content_hash
from tests.pretrained.checkpoints import tiny_pipeline, write_checkpoint

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


@pytest.mark.parametrize("generation", ["1", "xl"])
def test_a_single_file_gives_the_states_and_latents_of_the_folder_it_was_written_from(tmp_path, generation):
    pipe = tiny_pipeline(generation)
    pipe.save_pretrained(tmp_path / "model")
    file = write_checkpoint(pipe, tmp_path / "one.safetensors", metadata={"modelspec.resolution": "32x32"})
    of_folder, of_file = encoders(tmp_path / "model"), encoders(file)
    assert (of_folder.image_size, of_folder.scaling_factor) == (of_file.image_size, of_file.scaling_factor)
    for expected, states in zip(of_folder.text_states(TEXTS), of_file.text_states(TEXTS), strict=True):
        torch.testing.assert_close(states, expected)
    picture = of_folder.prepare(Image.new("RGB", (40, 32), "red"))
    torch.testing.assert_close(of_file.latents([picture]), of_folder.latents([picture]))


def test_a_single_file_is_told_from_another_by_its_bytes_and_another_kind_is_one_sentence(tmp_path):
    file = tmp_path / "one.safetensors"
    save_file({"lora_te.lora_down.weight": torch.zeros(1)}, file)
    values = {"models.diffusion": str(file), "models.device": "cpu"}
    models = Models(load_config({}, values).models)
    before = models.weights("diffusion")
    with pytest.raises(SurdError, match=r"cannot be loaded as DiffusionEncoders: it is a LoRA, which changes a"):
        _ = models.diffusion
    content_hash.cache_clear()
    save_file({"lora_te.lora_down.weight": torch.ones(1)}, file)
    assert models.weights("diffusion") != before
