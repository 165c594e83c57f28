"""PixArt-Sigma and Stable Diffusion 3 as small as they can be, with random weights and a T5 of letters."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

T5_WIDTH, CLIP_POOLED = 64, 8
KINDS = ("pixart", "sd3")
#: Tokens of a prompt: of PixArt's T5; of CLIP's 16 and then T5 in Stable Diffusion 3.
TOKENS = {"pixart": 300, "sd3": 16 + 256}


def save_tiny_transformer(kind: str, base: str, folder: Path) -> Path:
    """Its VAE and words are those of the Stable Diffusion ``base``; text states 64 wide."""
    one = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    torch.manual_seed(0)
    (_pixart(one) if kind == "pixart" else _sd3(one)).save_pretrained(folder)
    return folder


def tiny_t5() -> tuple[T5Tokenizer, T5EncoderModel]:
    """A tokenizer of single letters, and an encoder for it."""
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters += [(letter, -3.0) for letter in string.ascii_lowercase + string.digits + ",."]
    config = T5Config(
        vocab_size=len(letters), d_model=T5_WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=512), T5EncoderModel(config)


def _pixart(one: Any) -> PixArtSigmaPipeline:
    tokenizer, encoder = tiny_t5()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=32, sample_size=8, patch_size=2, caption_channels=T5_WIDTH, use_additional_conditions=False,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return PixArtSigmaPipeline(tokenizer, encoder, one.vae, transformer, scheduler)


def _sd3(one: Any) -> StableDiffusion3Pipeline:
    tokenizer, encoder = tiny_t5()
    words = one.text_encoder.config.to_dict() | {"projection_dim": CLIP_POOLED}
    small = words | {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    clips = [CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config)) for config in (words, small)]
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=T5_WIDTH, caption_projection_dim=32,
        pooled_projection_dim=2 * CLIP_POOLED, pos_embed_max_size=8,
    )  # fmt: skip
    vae = type(one.vae).from_config(one.vae.config, shift_factor=0.06, scaling_factor=1.5)
    return StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), vae, clips[0], one.tokenizer, clips[1], one.tokenizer,
        encoder, tokenizer,
    )  # fmt: skip
