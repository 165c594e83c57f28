"""Turns a model string into a frozen Stable Diffusion pipeline, and texts and images into what its UNet meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.errors import SurdError
from schemas.model_ref import resolve_model

Pipeline = Any  # a StableDiffusionPipeline: diffusers adds its parts at run time, so a type checker sees none of them


def load_base(ref: str, device: torch.device | str = "cpu") -> Pipeline:
    """The diffusers pipeline that ``ref`` names (hub id, folder or ``package:`` string), frozen, in eval mode, float32.

    Loaded without the safety checker: the black images it returns would be compared as if the model had drawn them.
    Raises SurdError when the folder or hub id cannot be loaded as a StableDiffusionPipeline.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar as quiet_diffusers
    from transformers.utils.logging import disable_progress_bar as quiet_transformers

    quiet_diffusers()
    quiet_transformers()
    path = resolve_model(ref)
    if Path(path).exists() and not (Path(path) / "model_index.json").is_file():
        raise SurdError(f"--base: {ref!r} has no model_index.json; name a diffusers StableDiffusionPipeline folder")
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            path, safety_checker=None, requires_safety_checker=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SurdError(f"--base: {ref!r} cannot be loaded ({reason}); name a local diffusers folder") from error
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.vae, pipe.text_encoder, pipe.unet):
        module.requires_grad_(False).eval()
    return pipe.to(device)


def text_width(pipe: Pipeline) -> int:
    """Width of the text states that the UNet attends to."""
    return int(pipe.text_encoder.config.hidden_size)


def image_size(pipe: Pipeline) -> int:
    """Side in pixels of the images the UNet was trained on."""
    return int(pipe.unet.config.sample_size * pipe.vae_scale_factor)


@torch.no_grad()
def encode_text(pipe: Pipeline, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Text states [B, T, width] as the pipeline itself makes them, and their mask [B, T]: 1 where a token is real."""
    tokens = pipe.tokenizer(
        texts, padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).to(pipe.device)
    uses_mask = getattr(pipe.text_encoder.config, "use_attention_mask", False)
    states = pipe.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask if uses_mask else None)[0]
    return states, tokens.attention_mask


@torch.no_grad()
def encode_images(pipe: Pipeline, images_BCHW: Tensor) -> Tensor:
    """Scaled latents [B, C, h, w], sampled from the VAE's posterior, of images in [-1, 1]."""
    posterior = pipe.vae.encode(images_BCHW.to(pipe.device)).latent_dist
    return posterior.sample() * pipe.vae.config.scaling_factor
