"""SDXL as small as it can be, made of the parts of a Stable Diffusion pipeline and a second text encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection


def save_tiny_sdxl(base: str, folder: Path) -> Path:
    """Beside ``base``'s text states 16 more, pooled text 8 wide, six numbers of size and crop."""
    one = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 8}
    words = one.text_encoder.config.to_dict() | small
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
            cross_attention_dim=one.text_encoder.config.hidden_size + 16,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=8 + 6 * 4,
        ),
        scheduler=DDPMScheduler(),
    ).save_pretrained(folder)
    return folder
