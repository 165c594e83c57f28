"""The frozen diffusion model: loading, its widths, and encoding of texts and images for its UNet or transformer."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surd.pretrained.checkpoint_file import is_checkpoint, open_checkpoint
from surd.pretrained.checkpoint_parts import make_pipeline
from surd.pretrained.diffusion import Architecture, UnfitModel, architecture, kind_of
from surd.pretrained.text_states import TextStates, text_states
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model

SIZE_AND_CROP = 6  # numbers: height and width of the original, top and left of the crop, height and width asked for
Pipeline = Any  # a Stable Diffusion pipeline: diffusers adds its parts at run time, so a type checker sees none of them


def load_base(
    ref: str,
    device: torch.device | str = "cpu",
    *,
    unet: bool = True,
    vae: bool = True,
    text: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Pipeline:
    """The diffusers pipeline that ``ref`` names (hub id, folder, checkpoint file or ``package:`` string), frozen, in
    eval mode.

    In ``dtype``, except the VAE, which is in float32 (SDXL's overflows in half precision). Parts that are switched
    off are None and never read. Loaded without the safety checker: the black images it returns would be compared as
    if the model had drawn them. Raises SurdError when what is there is no model of a supported kind, or not whole.
    """
    from diffusers.utils.logging import disable_progress_bar as quiet_diffusers
    from transformers.utils.logging import disable_progress_bar as quiet_transformers

    quiet_diffusers()
    quiet_transformers()
    path = resolve_base(ref)
    try:
        if is_checkpoint(path):
            file = open_checkpoint(path)
            pipe = make_pipeline(file, _left_out(file.architecture, unet, vae, text), dtype)
        else:
            pipe = _load_folder(ref, path, unet=unet, vae=vae, text=text, dtype=dtype)
    except UnfitModel as error:
        raise SurdError(f"--base: {ref!r} {error}") from None
    except SurdError:
        raise
    except Exception as error:  # a damaged folder makes diffusers and transformers raise many types
        reason = one_line(error, 300)
        raise SurdError(f"--base: {ref!r} cannot be loaded ({reason}); name a local diffusers folder") from error
    pipe.set_progress_bar_config(disable=True)
    for module in networks(pipe).values():
        module.requires_grad_(False).eval()
    if kind_of(pipe).denoiser == "unet" and pipe.unet is not None:
        pipe.unet.to(memory_format=torch.channels_last)  # makes its convolutions faster, on CPUs and on tensor cores
    return pipe.to(device)


def _load_folder(ref: str, path: str, *, unet: bool, vae: bool, text: bool, dtype: torch.dtype) -> Pipeline:
    import diffusers

    if Path(path).exists() and not (Path(path) / "model_index.json").is_file():
        raise SurdError(f"--base: {ref!r} has no model_index.json; name the folder of a diffusers pipeline")
    index = diffusers.DiffusionPipeline.load_config(path)
    kind = architecture(index)
    options: dict[str, Any] = {part: None for part in _left_out(kind, unet, vae, text) if part in index}
    _check_whole(ref, Path(path), index, options)
    options["dtype"] = {"default": dtype, "vae": torch.float32}
    options |= _load_networks(path, index, kind, options, dtype)
    if kind.has_checker:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    return getattr(diffusers, kind.pipeline).from_pretrained(path, use_safetensors=True, **options)


def _left_out(kind: Architecture, unet: bool, vae: bool, text: bool) -> list[str]:
    """The parts that are not loaded."""
    out = {kind.denoiser: not unet, "vae": not vae} | dict.fromkeys([*kind.encoders, *kind.tokenizers], not text)
    return [part for part, is_out in out.items() if is_out]


def resolve_base(ref: str) -> str:
    """``resolve_model`` of the base model: a SurdError names the flag."""
    try:
        return resolve_model(ref)
    except SurdError as error:
        raise SurdError(f"--base: {error}") from None


def _check_whole(ref: str, folder: Path, index: dict[str, Any], left_out: Collection[str]) -> None:
    """SurdError if a part's folder is missing: transformers would make an empty tokenizer instead."""
    named = [part for part, of in index.items() if isinstance(of, list) and any(of) and part not in left_out]
    missing = [part for part in named if part != "safety_checker" and not (folder / part).is_dir()]
    if folder.is_dir() and missing:
        raise SurdError(f"--base: {ref!r} has no folder {missing[0]!r}; copy the whole model, or name another")


def _load_networks(
    path: str, index: dict[str, Any], kind: Architecture, left_out: Collection[str], dtype: torch.dtype
) -> dict[str, Any]:
    """The networks of a pipeline by part. ValueError if weights are missing, which would be random."""
    parts = {}
    for part in kind.networks:
        library, name = index.get(part) or (None, None)
        if library is None and part not in left_out:
            raise ValueError(f"its {part} is left empty")
        if part in left_out or library not in ("diffusers", "transformers"):
            continue
        network = getattr(importlib.import_module(library), str(name))
        parts[part], info = network.from_pretrained(
            path,
            subfolder=part,
            use_safetensors=True,
            output_loading_info=True,
            variant=only_variant(Path(path) / part),
            torch_dtype=torch.float32 if part == "vae" else dtype,
        )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"the weights of its {part} lack {missing[0]}, which would be random")
    return parts


def only_variant(folder: Path) -> str | None:
    """``fp16`` where a part has its safetensors in half precision alone, as ``model.fp16.safetensors``."""
    names = [file.name for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    return "fp16" if names and all(".fp16" in name for name in names) else None


def pick_device(device: str) -> str:
    """``cpu`` or ``cuda``; auto: the GPU if there is one. SurdError for ``cuda`` without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SurdError("--device: 'cuda' needs a GPU, but torch finds none; use cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def networks(pipe: Pipeline) -> dict[str, torch.nn.Module]:
    """The networks of ``pipe`` that are loaded, by part name."""
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def backbone(pipe: Pipeline) -> Any:
    """The network that denoises: UNet or transformer."""
    return pipe.transformer if hasattr(pipe, "transformer") else pipe.unet


def base_name(pipe: Pipeline) -> str:
    """What the model was loaded by: a path or hub id; where it was made in memory the name of its class."""
    name = str(backbone(pipe).config.get("_name_or_path") or type(pipe).__name__)
    return name.removesuffix("/unet").removesuffix("/transformer")


def text_width(pipe: Pipeline) -> int:
    """Width of the text states that the denoiser attends to."""
    names = ("cross_attention_dim", "caption_channels", "joint_attention_dim")  # of UNet, PixArt, Stable Diffusion 3
    name = names[0] if kind_of(pipe).denoiser == "unet" else names[1 + (len(kind_of(pipe).encoders) > 1)]
    return int(backbone(pipe).config[name])


def encoded_width(pipe: Pipeline) -> int | None:
    """Width of the text states that the pipeline's encoders give; None where they are not loaded."""
    widths = [encoder.config.hidden_size for part in kind_of(pipe).encoders if (encoder := pipe.components.get(part))]
    if not widths:
        return None
    return int(widths[-1] if "text_encoder_3" in kind_of(pipe).encoders else sum(widths))  # CLIP's are padded to T5's


def pooled_width(pipe: Pipeline) -> int:
    """Width of the pooled text that the denoiser takes beside the states; 0 if it takes none."""
    config = backbone(pipe).config
    if "pooled_projection_dim" in config:
        return int(config.pooled_projection_dim)
    if config.get("addition_embed_type") != "text_time":
        return 0
    return int(config.projection_class_embeddings_input_dim - SIZE_AND_CROP * config.addition_time_embed_dim)


def added_conditions(
    pipe: Pipeline, pooled: Tensor | None, size: int | None, size_and_crop_B6: Tensor | None = None
) -> dict[str, Tensor] | None:
    """What the denoiser takes beside the states, by its own names: pooled text and, of SDXL, ``size_and_crop_B6`` as
    ``SizeAndCrop`` has it; None: that pictures are whole and ``size`` pixels a side (None: what the model was made
    for)."""
    if pooled is None:
        return None
    if kind_of(pipe).denoiser == "transformer":
        return {"pooled_projections": pooled}
    if size_and_crop_B6 is not None:
        return {"text_embeds": pooled, "time_ids": size_and_crop_B6.to(pooled.device)}
    size = size or image_size(pipe)
    time_ids = torch.tensor([[size, size, 0, 0, size, size]], device=pooled.device, dtype=pooled.dtype)
    return {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)}


def check_text_width(pipe: Pipeline, width: int, trained_for: str | None) -> None:
    """SurdError, naming both models, if an adapter of this width was trained for another one than ``pipe``."""
    if width != text_width(pipe):
        known = f"{trained_for!r}, " if trained_for else ""
        raise SurdError(
            f"--base: {base_name(pipe)!r} has text states {text_width(pipe)} wide, but the adapter was trained for"
            f" {known}{width} wide; name the base model that it was trained for"
        )


def check_vocabulary(pipe: Pipeline, vocabulary: int, trained_for: str | None) -> None:
    """SurdError, naming both models, if an adapter that writes prompts was trained for another tokenizer's tokens."""
    if vocabulary != len(pipe.tokenizer):
        raise SurdError(
            f"--base: {base_name(pipe)!r} has {len(pipe.tokenizer):,} tokens, but the adapter writes prompts in the"
            f" {vocabulary:,} of {trained_for!r}; name that base model"
        )


def check_attachable(pipe: Pipeline, flag: str) -> None:
    """SurdError if the denoiser is a transformer: an attached LLM is read where a UNet takes text states."""
    if kind_of(pipe).denoiser == "transformer":
        raise SurdError(
            f"{flag}: an LLM is attached to a Stable Diffusion 1.x, 2.x or XL, and {base_name(pipe)!r} is a"
            f" {kind_of(pipe).pipeline}; train for it with --llm-role distil"
        )


def image_size(pipe: Pipeline) -> int:
    """Side in pixels of the images the denoiser was trained on; needs the VAE, whose strides give the scale."""
    return int(backbone(pipe).config.sample_size * pipe.vae_scale_factor)


def encode_text(pipe: Pipeline, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Text states [B, T, width] as the pipeline itself makes them, and their mask [B, T]: 1 where a token is real."""
    encoded = encode_prompts(pipe, texts)
    return encoded.states, encoded.mask


def encode_prompts(pipe: Pipeline, texts: list[str]) -> TextStates:
    """Text states as the pipeline itself makes them; no gradient."""
    return text_states(pipe, texts)


@torch.no_grad()
def encode_images(pipe: Pipeline, images_BCHW: Tensor) -> Tensor:
    """Scaled latents [B, C, h, w], sampled from the VAE's posterior, of images in [-1, 1]."""
    posterior = pipe.vae.encode(images_BCHW.to(pipe.device, pipe.vae.dtype)).latent_dist
    return (posterior.sample() - (pipe.vae.config.shift_factor or 0)) * pipe.vae.config.scaling_factor
