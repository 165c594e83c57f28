"""A single-file checkpoint is read as the model it was written from; whatever else a file holds is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from sur_adapter.base_model import encode_prompts, image_size, load_base, networks
from surd.pretrained.checkpoint_configs import unet_config, vae_config
from surd.pretrained.checkpoint_file import CheckpointFile
from surd.pretrained.clip_vocabulary import stable_diffusion_tokenizer
from surd.schemas.errors import SurdError
from tests.pretrained.checkpoints import (
    GENERATIONS,
    original_unet,
    original_vae,
    original_weights,
    tiny_pipeline,
    write_checkpoint,
)

UNET = "model.diffusion_model."
TEXTS = ["three red apples on a table", "", "a cat, masterpiece " * 40]
V = {"modelspec.prediction_type": "v"}
SIZE = {"modelspec.resolution": "32x32"}


@pytest.fixture(scope="module", params=GENERATIONS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A diffusers folder and the single file of the same weights."""
    folder = tmp_path_factory.mktemp("pair")
    pipe = tiny_pipeline(request.param)
    pipe.save_pretrained(folder / "folder")
    metadata = SIZE | (V if request.param == "2" else {})
    return folder / "folder", write_checkpoint(pipe, folder / "one.safetensors", metadata=metadata)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return original_weights(tiny_pipeline("1"))


def test_a_single_file_is_the_model_it_was_written_from(pair: tuple[Path, Path]) -> None:
    folder, file = (load_base(str(ref)) for ref in pair)
    assert type(folder) is type(file) and image_size(folder) == image_size(file) == 32
    for name, network in networks(folder).items():
        expected, loaded = network.state_dict(), networks(file)[name].state_dict()
        assert expected.keys() == loaded.keys(), name
        assert all(torch.equal(loaded[key], tensor) for key, tensor in expected.items()), name
    one, other = encode_prompts(folder, TEXTS), encode_prompts(file, TEXTS)
    assert torch.equal(one.states, other.states) and torch.equal(one.mask, other.mask)
    torch.testing.assert_close(_drawn(file), _drawn(folder), atol=1e-4, rtol=1e-4)


def _drawn(pipe: Any) -> torch.Tensor:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latents: torch.Tensor = pipe("a red cat", num_inference_steps=3, latents=noise, output_type="latent").images
    return latents


PUBLISHED: dict[str, dict[str, Any]] = {
    "1": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "2": {
        "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024, "use_linear_projection": True,
        "attention_head_dim": (5, 10, 20, 20),
    },
    "xl": {
        "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "use_linear_projection": True,
        "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip


@pytest.mark.parametrize("generation", PUBLISHED)
def test_the_published_models_configs_are_found_from_their_shapes(generation: Any) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**PUBLISHED[generation])
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    shapes = {f"{UNET}{name}": tuple(tensor.shape) for name, tensor in original_unet(unet)}
    shapes |= {f"first_stage_model.{name}": tuple(tensor.shape) for name, tensor in original_vae(vae)}
    shapes["conditioner.embedders.1.model.text_projection"] = (1280, 1280)
    file = CheckpointFile(
        path=Path("x"), generation=generation, shapes=shapes, prediction="epsilon", pixels=512, zero_snr=False
    )
    assert {name: unet_config(file)[name] for name in PUBLISHED[generation]} == PUBLISHED[generation]
    with torch.device("meta"):
        made = UNet2DConditionModel.from_config(unet_config(file) | {"sample_size": unet.config.sample_size}).config
    assert {key: made[key] for key in made if made[key] != unet.config[key] and not key.startswith("_")} in (
        {}, {"transformer_layers_per_block": (1, 1, 1, 1)},  # which 1 means
    )  # fmt: skip
    found = vae_config(file)
    assert {name: vae.config[name] for name in found if name not in ("sample_size", "scaling_factor")} == {
        name: found[name] for name in found if name not in ("sample_size", "scaling_factor")
    }


def test_the_scheduler_predicts_and_spaces_as_the_folders_does(pair: tuple[Path, Path]) -> None:
    folder, file = (load_base(str(ref), unet=False, vae=False, text=False).scheduler for ref in pair)
    assert type(folder) is type(file)
    assert {key: file.config[key] for key in folder.config if not key.startswith("_")} == {
        key: value for key, value in folder.config.items() if not key.startswith("_")
    }


def test_parts_that_are_not_asked_for_are_not_read(pair: tuple[Path, Path]) -> None:
    assert set(networks(load_base(str(pair[1]), vae=False, text=False))) == {"unet"}
    assert not set(networks(load_base(str(pair[1]), unet=False))) & {"unet"}


def test_weights_in_half_precision_are_read_as_float32(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.safetensors")
    pipe = load_base(str(tmp_path / "half.safetensors"))
    assert {weight.dtype for part in networks(pipe).values() for weight in part.parameters()} == {torch.float32}


def test_the_tokenizer_gives_open_clips_ids_and_pads_as_its_model_was_trained() -> None:
    # No "!" here: where that is the padding, diffusers' folders too read it as such.
    texts = ["a cat's 3 hats, (masterpiece:1.2), VERY détailed??", "don't", "", "日本語 of x", "x " * 200]
    theirs = SimpleTokenizer()(texts)
    for pad, number in (("<|endoftext|>", 49407), ("!", 0)):
        tokenizer = stable_diffusion_tokenizer(pad)
        ours = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        real = ours.attention_mask.bool()
        assert torch.equal(ours.input_ids[real], theirs[real]) and set(ours.input_ids[~real].tolist()) == {number}


@pytest.mark.parametrize(("parameterization", "prediction"), [("v", "v_prediction"), (None, "epsilon")])
def test_a_2x_file_is_what_the_config_beside_it_says(
    tmp_path: Path, parameterization: str | None, prediction: str
) -> None:
    file = write_checkpoint(tiny_pipeline("2"), tmp_path / "two.safetensors")
    with pytest.raises(SurdError, match=r"2\.x that does not say what it predicts; put its config beside it as two\."):
        load_base(str(file))
    params = f"parameterization: {parameterization}" if parameterization else "linear_start: 0.00085"
    (tmp_path / "two.yaml").write_text(f"model:\n  params:\n    {params}\n")
    pipe = load_base(str(file), vae=False, text=False)
    assert pipe.scheduler.config.prediction_type == prediction
    (tmp_path / "two.yaml").write_text("- a list")
    with pytest.raises(SurdError, match=r"has beside it a two\.yaml that is not a config"):
        load_base(str(file))


def test_a_tensor_named_v_pred_makes_it_predict_velocity(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(weights | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, tmp_path / "v.safetensors")
    scheduler = load_base(str(tmp_path / "v.safetensors"), vae=False, text=False).scheduler
    assert (scheduler.config.prediction_type, scheduler.config.rescale_betas_zero_snr) == ("v_prediction", True)


ONE = torch.zeros(1, 1)


def _inputs(channels: int) -> dict[str, torch.Tensor]:
    return {f"{UNET}input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)}


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": ONE}, "is a LoRA, which changes a model"),
        ({"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": ONE}, "is a LoRA"),
        ({"encoder.conv_in.weight": ONE, "decoder.conv_in.weight": ONE}, "is a VAE alone"),
        ({"control_model.input_blocks.0.0.weight": ONE, **_inputs(4)}, "is a ControlNet"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": ONE}, "is a Flux"),
        ({f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": ONE}, "is a Flux"),
        ({f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": ONE}, "is a Stable Diffusion 3 in a single file"),
        ({"blocks.0.cross_attn.q_linear.weight": ONE, "y_embedder.y_embedding": ONE}, "is a PixArt"),
        ({"clip_txt_mapper.weight": torch.zeros(2048, 1)}, "is a Stable Cascade"),
        ({"blocks.0.cross_attn.norm_k.weight": ONE}, "is a Wan"),
        ({"transformer_blocks.0.img_mlp.net.0.proj.weight": ONE}, "is a Qwen-Image"),
        ({"txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": ONE}, "is a 'hunyuan-video', as"),
        ({"down_blocks.0.resnets.0.conv1.weight": ONE}, "is one network in the layout of diffusers"),
        ({"emb_params": ONE}, "is a textual inversion"),
        ({"single_transformer_blocks.0.attn.to_q.weight": ONE}, "is a Flux"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": ONE, "shared.weight": ONE}, "is a text encoder alone"),
        ({"text_model.embeddings.token_embedding.weight": ONE}, "is a text encoder alone"),
        ({"lycoris_mid.hada_w1_a": ONE, "lycoris_mid.alpha": ONE}, "is a LoRA"),
        ({"some.weight": ONE}, "is not a diffusion model that is known here"),
        ({}, "is an empty file"),
        ({**_inputs(4), "conditioner.embedders.0.model.ln_final.weight": ONE}, "is an SDXL refiner"),
        ({**_inputs(4), "edm_mean": ONE}, "is a Playground 2.5"),
        (_inputs(4), "has no text encoder"),
        (_inputs(9), "is an inpainting model"),
        (_inputs(8), "is an instruct-pix2pix model"),
        (_inputs(7), "is an upscaler"),
        (_inputs(5), "is a depth model"),
    ],
)  # fmt: skip
def test_another_kind_of_file_is_refused_by_name(tensors: dict[str, torch.Tensor], what: str, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file)
    with pytest.raises(SurdError) as caught:
        load_base(str(file))
    sentence = str(caught.value)
    assert sentence.startswith(f"--base: {str(file)!r} {what}") and "; name a" in sentence and "\n" not in sentence


def test_a_checkpoint_without_vae_says_so(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("first_stage_model.")}
    save_file(kept, tmp_path / "bare.safetensors")
    with pytest.raises(SurdError, match=r"has no VAE; name one that has its VAE baked in"):
        load_base(str(tmp_path / "bare.safetensors"))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
def test_a_checkpoint_that_lacks_a_weight_names_it(
    weights: dict[str, torch.Tensor], tmp_path: Path, prefix: str
) -> None:
    lost = max(name for name in weights if name.startswith(prefix) and "1" in name)
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, tmp_path / "part.safetensors")
    with pytest.raises(SurdError, match=r"--base: .* lacks the (weights|tensor) "):
        load_base(str(tmp_path / "part.safetensors"))


def test_a_weight_of_another_shape_is_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    name = f"{UNET}middle_block.0.in_layers.2.weight"
    save_file(weights | {name: weights[name][:32].clone()}, tmp_path / "odd.safetensors")
    with pytest.raises(SurdError, match=r"has weights mid_block.resnets.0.conv1.weight of shape \[32, 64, 3, 3\]"):
        load_base(str(tmp_path / "odd.safetensors"))


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_cut, r"is cut off: it has [\d,]+ of [\d,]+ bytes; download it again"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "is not a valid safetensors file; download it"),
        (lambda _: b"", "is not a valid safetensors file"),
        (lambda data: data[:8] + b"[" * (len(data) - 8), "is not a valid safetensors file"),
        (lambda _: (2).to_bytes(8, "little") + b"[]", "is not a valid safetensors file"),
        (lambda _: (9).to_bytes(8, "little") + b'{"a": []}', "is not a valid safetensors file"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    weights: dict[str, torch.Tensor], tmp_path: Path, spoil: Any, what: str
) -> None:
    file = tmp_path / "damaged.safetensors"
    save_file(weights, file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(SurdError, match=f"--base: .*{what}"):
        load_base(str(file))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04")
    with pytest.raises(SurdError, match=r"would have to be unpickled; convert it to \.safetensors"):
        load_base(str(tmp_path / "old.ckpt"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SurdError, match=r"is a file, but not a \.safetensors; name a folder"):
        load_base(str(tmp_path / "notes.txt"))
    with pytest.raises(SurdError, match=r"--base: model 'gone.safetensors': there is no such folder or file"):
        load_base("gone.safetensors")
