"""A base model with two text encoders: the adapter works on their states side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_prompts, load_base
from sur_adapter.train_config import TrainConfig
from sur_adapter.trainer import train


@pytest.fixture
def xl(base: Path, tmp_path: Path) -> Path:
    """SDXL as small as it can be: text states 32 + 16 wide, pooled 8, six numbers of size and crop."""
    one = StableDiffusionPipeline.from_pretrained(base)
    torch.manual_seed(0)
    words = one.text_encoder.config.to_dict() | {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 8}
    StableDiffusionXLPipeline(
        vae=one.vae,
        text_encoder=one.text_encoder,
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig.from_dict(words)),
        tokenizer=one.tokenizer,
        tokenizer_2=one.tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=8,
            norm_num_groups=8,
            cross_attention_dim=48,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=8 + 6 * 4,
        ),
        scheduler=DDPMScheduler(),
    ).save_pretrained(tmp_path / "xl")
    return tmp_path / "xl"


def test_states_are_those_of_both_encoders(xl: Path) -> None:
    pipe: Any = load_base(str(xl))
    texts = encode_prompts(pipe, ["red cat", "dog"])
    assert texts.states.shape == (2, 16, 48) and texts.mask.shape == (2, 16) and texts.pooled is not None
    assert texts.pooled.shape == (2, 8)


def test_sdxl_trains_through_its_unet(config: Callable[..., TrainConfig], xl: Path, tmp_path: Path) -> None:
    result = train(config(base=str(xl), steps=2, w_llm=0, w_prompt=0, heads=8))
    assert result.losses_last["denoise"] > 0
    adapter = SURAdapter.from_pretrained(tmp_path / "run")
    assert adapter.config["width"] == 48 and adapter.fc.weight.abs().max() > 0
