"""The encoders of a diffusion model: prompts to text states, pictures to latents."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from surd.pretrained.checkpoint_configs import unet_config
from surd.pretrained.checkpoint_file import is_checkpoint, open_checkpoint
from surd.pretrained.checkpoint_parts import make_pipeline
from surd.pretrained.diffusion import UnfitModel, architecture, kind_of
from surd.pretrained.text_states import text_states
from surd.pretrained.weights import check_whole
from surd.schemas.shard_format.buckets import bucket_sizes
from surd.schemas.shard_format.pixels import square

_TELL_OF_LONG_PROMPTS = (
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl", "transformers.tokenization_utils_base",
)  # fmt: skip
_MOST_PIXELS = 1 << 20  # in one pass of the VAE, whose first layers take over a kilobyte a pixel


class DiffusionEncoders:
    """Tokenizers, text encoders and VAE of a diffusers pipeline or checkpoint file; no UNet and no transformer.

    All in float32. ``image_size``: pixels a side of the images it was made for. ``scaling_factor`` and
    ``shift_factor``: what the pipeline makes of a latent, ``(latent - shift_factor) * scaling_factor``. ``scale``:
    pixels a side that one number of the latents stands for. ``buckets``: width and height of its buckets, pixels.
    """

    def __init__(self, ref: str, device: str) -> None:
        from diffusers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            pipe, sample_size = _checkpoint_pipeline(ref) if is_checkpoint(ref) else _folder_pipeline(ref)
        except UnfitModel as error:
            raise ValueError(f"it {error}") from None
        # What is cut off of a long prompt is no news: it is so for every one.
        for module in _TELL_OF_LONG_PROMPTS:
            logging.getLogger(module).setLevel(logging.ERROR)
        self._device = torch.device(device)
        self._pipe, self._vae = pipe.to(self._device), pipe.vae.eval()
        for encoder in kind_of(pipe).encoders:
            _bound(pipe, encoder)
        self.scale = int(pipe.vae_scale_factor)
        self.image_size = int(sample_size * self.scale)
        # A transformer takes two by two latents for one token.
        self.buckets = bucket_sizes(self.image_size, self.scale * (1 + (kind_of(pipe).denoiser == "transformer")))
        self.scaling_factor = float(self._vae.config.scaling_factor)
        shift = getattr(self._vae.config, "shift_factor", None)
        self.shift_factor = None if shift is None else float(shift)

    @torch.inference_mode()
    def text_states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor | None]:
        """States [B, T, width] float32 as the pipeline makes them, and mask [B, T] uint8: 1 where a token is real.

        Of several text encoders the pooled text [B, P] comes with them.
        """
        encoded = text_states(self._pipe, texts)
        pooled = None if encoded.pooled is None else encoded.pooled.cpu()
        return encoded.states.cpu(), encoded.mask.cpu().to(torch.uint8), pooled

    def prepare(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """The picture resized and centre-cropped to the model's size, [size, size, 3]."""
        return square(picture, self.image_size)

    def images_at_once(self, most: int) -> int:
        """How many pictures go through the VAE together: ``most``, or fewer where they are large."""
        return max(1, min(most, _MOST_PIXELS // self.image_size**2))

    @torch.inference_mode()
    def latents(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        """Mean and, after it, standard deviation of the VAE's posterior: [B, 2C, h, w] float32, not scaled."""
        pixels = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        posterior = self._vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1).cpu()


def _checkpoint_pipeline(ref: str) -> tuple[Any, int]:
    """The pipeline of a single-file checkpoint without its UNet, and the side of its latents."""
    file = open_checkpoint(ref)
    return make_pipeline(file, (file.architecture.denoiser,)), unet_config(file)["sample_size"]


def _folder_pipeline(ref: str) -> tuple[Any, int]:
    """The same of a diffusers folder or hub id."""
    from diffusers import DiffusionPipeline, UNet2DConditionModel

    if Path(ref).exists() and not (Path(ref) / "model_index.json").is_file():
        raise ValueError("it has no model_index.json; name a diffusers pipeline folder")
    index = DiffusionPipeline.load_config(ref)
    kind = architecture(index)
    parts = [*kind.encoders, *kind.tokenizers]
    if lost := [part for part in parts if Path(ref).exists() and not (Path(ref) / part).is_dir()]:
        # Of a tokenizer transformers would make an empty one.
        raise ValueError(f"it has no folder {lost[0]!r}; copy the whole model, or name another")
    # The safety checker judges drawn pictures, and nothing is drawn here.
    no_checker = {"safety_checker": None, "requires_safety_checker": False} if kind.has_checker else {}
    networks = {part: _load_network(ref, part, *index[part]) for part in ("vae", *kind.encoders)}
    pipe: Any = DiffusionPipeline.from_pretrained(
        ref, use_safetensors=True, **{kind.denoiser: None}, **networks, **no_checker
    )
    if lost := [part for part in parts if getattr(pipe, part) is None]:
        raise ValueError(f"its {lost[0]} is left empty; name a whole model")
    return pipe, UNet2DConditionModel.load_config(ref, subfolder=kind.denoiser)["sample_size"]


def _load_network(ref: str, part: str, library: str | None, name: str | None) -> Any:
    """One network of a pipeline in float32. ValueError if weights are missing: diffusers would leave them random."""
    if library not in ("diffusers", "transformers"):
        raise ValueError(f"its {part} is left empty, or of another library; name a whole model")
    folder = Path(ref) / part
    names = [file.name for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    model, info = getattr(importlib.import_module(library), str(name)).from_pretrained(
        ref,
        subfolder=part,
        use_safetensors=True,
        output_loading_info=True,
        variant="fp16" if names and all(".fp16" in one for one in names) else None,
        torch_dtype=torch.float32,
    )
    check_whole(info["missing_keys"])
    return model


def _bound(pipe: Any, encoder: str) -> None:
    """Make a text encoder ready; its tokenizer cuts where the encoder's positions end, which some do not say."""
    network = getattr(pipe, encoder).eval()
    tokenizer = getattr(pipe, encoder.replace("text_encoder", "tokenizer"))
    if positions := getattr(network.config, "max_position_embeddings", None):  # T5 has none
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
