"""The diffusers pipeline with an adapter: thin, saved and moved as one, and never adapting the negative prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_text, load_base
from sur_adapter.sampling.generate import sample_images, with_adapter
from sur_adapter.stable_diffusion import SURStableDiffusionPipeline, SURStableDiffusionXLPipeline
from surd.schemas.errors import SurdError

WIDTH = 32
PROMPTS = ["red cat", "two dog runs"]
QUIET = {"safety_checker": None, "requires_safety_checker": False}


@pytest.fixture
def adapter() -> SURAdapter:
    torch.manual_seed(0)
    made = SURAdapter(width=32, heads=4, feed_forward=64, eta=1.0)
    torch.nn.init.normal_(made.fc.weight)
    return made.eval()


@pytest.fixture
def pipe(base: Path, adapter: SURAdapter) -> SURStableDiffusionPipeline:
    loaded = SURStableDiffusionPipeline.from_pretrained(base, adapter=adapter, **QUIET)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn(pipe: Any, **options: Any) -> np.ndarray:
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return np.stack(pipe(PROMPTS, latents=noise, num_inference_steps=2, output_type="np", **options).images)


def test_the_positive_prompt_passes_the_adapter_and_the_negative_does_not(pipe: Any, adapter: SURAdapter) -> None:
    positive, negative = pipe.encode_prompt(PROMPTS, "cpu", 1, True, negative_prompt=["blue", "sits"])
    states, mask = encode_text(pipe, PROMPTS)
    torch.testing.assert_close(positive, adapter(states, mask).states)
    torch.testing.assert_close(negative, encode_text(pipe, ["blue", "sits"])[0])


def test_several_images_of_one_prompt_have_its_adapted_states(pipe: Any) -> None:
    single, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    twice, _ = pipe.encode_prompt(PROMPTS, "cpu", 2, False)
    torch.testing.assert_close(twice, single.repeat_interleave(2, dim=0))


def test_embeddings_that_a_caller_brings_are_not_adapted(pipe: Any) -> None:
    states, _ = encode_text(pipe, PROMPTS)
    with pytest.warns(UserWarning, match="prompt_embeds are used as they are, without the adapter"):
        positive, _ = pipe.encode_prompt(None, "cpu", 1, False, prompt_embeds=states)
    torch.testing.assert_close(positive, states)


def test_without_an_adapter_it_is_diffusers_pipeline(base: Path) -> None:
    bare = SURStableDiffusionPipeline.from_pretrained(base, **QUIET)
    bare.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(drawn(bare), drawn(load_base(str(base))), atol=1e-5)


def test_it_is_saved_and_loaded_with_its_adapter(pipe: Any, base: Path, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "both")
    again = SURStableDiffusionPipeline.from_pretrained(tmp_path / "both", **QUIET)
    again.set_progress_bar_config(disable=True)
    assert again.adapter.config["eta"] == 1.0 and not again.adapter.training
    np.testing.assert_allclose(drawn(again), drawn(pipe), atol=1e-5)
    assert np.abs(drawn(pipe) - drawn(load_base(str(base)))).max() > 1e-3


def test_an_adapter_is_named_by_its_folder_too(pipe: Any, adapter: SURAdapter, base: Path, tmp_path: Path) -> None:
    adapter.save_pretrained(tmp_path / "adapter")
    named = SURStableDiffusionPipeline.from_pretrained(base, adapter=tmp_path / "adapter", **QUIET)
    named.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(drawn(named), drawn(pipe), atol=1e-5)


def test_moving_the_pipeline_moves_the_adapter(pipe: Any) -> None:
    pipe.to(torch.bfloat16)
    assert {weight.dtype for weight in pipe.adapter.parameters()} == {torch.bfloat16}
    positive, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    assert positive.dtype == torch.bfloat16
    pipe.to("meta")
    assert {weight.device.type for weight in pipe.adapter.parameters()} == {"meta"}


def test_offloading_names_every_network_and_leaves_the_adapter_where_each_step_needs_it(pipe: Any) -> None:
    order = pipe.model_cpu_offload_seq.split("->")
    assert order.index("text_encoder") < order.index("llm") < order.index("unet")
    assert "adapter" in pipe._exclude_from_cpu_offload and "adapter" not in order


def test_an_adapter_across_the_batch_sees_one_prompt_at_a_time(base: Path) -> None:
    torch.manual_seed(0)
    across = SURAdapter(width=32, heads=4, feed_forward=64, eta=1.0, attention_axis="batch").eval()
    torch.nn.init.normal_(across.fc.weight)
    pipe = SURStableDiffusionPipeline.from_pretrained(base, adapter=across, **QUIET)
    both, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    alone, _ = pipe.encode_prompt(PROMPTS[:1], "cpu", 1, False)
    torch.testing.assert_close(both[:1], alone)


def test_an_adapter_of_another_width_is_refused(base: Path) -> None:
    with pytest.raises(SurdError, match="text width is 32 but the adapter's is 64"):
        SURStableDiffusionPipeline.from_pretrained(base, adapter=SURAdapter(width=64, heads=4), **QUIET)


@pytest.fixture
def large(base: Path) -> Any:
    """An SDXL pipeline as small as the base: two text encoders of width 32, so text states of width 64."""
    small = load_base(str(base))
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(**small.text_encoder.config.to_dict() | {"projection_dim": WIDTH}),
    )
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=small.vae, text_encoder=small.text_encoder, text_encoder_2=second, tokenizer=small.tokenizer,
        tokenizer_2=small.tokenizer, unet=unet, scheduler=small.scheduler, add_watermarker=False,
    )  # fmt: skip


def test_of_two_text_encoders_the_states_side_by_side_are_adapted_and_the_pooled_ones_are_not(large: Any) -> None:
    torch.manual_seed(0)
    wide = SURAdapter(width=64, heads=4, feed_forward=64, eta=1.0).eval()
    torch.nn.init.normal_(wide.fc.weight)
    pipe = with_adapter(large, wide)
    assert isinstance(pipe, SURStableDiffusionXLPipeline)
    plain, adapted = (one.encode_prompt(PROMPTS, device="cpu", negative_prompt=["blue"] * 2) for one in (large, pipe))
    mask = large.tokenizer(PROMPTS, padding="max_length", return_tensors="pt").attention_mask
    torch.testing.assert_close(adapted[0], wide(plain[0], mask).states)
    for theirs, ours in zip(plain[1:], adapted[1:], strict=True):
        torch.testing.assert_close(theirs, ours)
    (image, _) = sample_images(large, wide, PROMPTS, steps=1)
    assert image.size == (32, 32)
