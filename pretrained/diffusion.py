"""Which diffusion models can be trained for, what their parts are called, and what all others are refused as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = "Stable Diffusion 1.x, 2.x or XL"


class UnfitModel(ValueError):
    """A model of another kind. Its message goes on after the model's name: "is a LoRA, ...; name ..."."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One kind of diffusers pipeline: ``denoiser`` names the part that is conditioned on the states of ``encoders``."""

    pipeline: str
    encoders: tuple[str, ...] = ("text_encoder",)
    denoiser: str = "unet"
    has_checker: bool = False

    @property
    def tokenizers(self) -> tuple[str, ...]:
        return tuple(encoder.replace("text_encoder", "tokenizer") for encoder in self.encoders)

    @property
    def networks(self) -> tuple[str, ...]:
        return (self.denoiser, "vae", *self.encoders)


_TWO = ("text_encoder", "text_encoder_2")
ARCHITECTURES = {
    one.pipeline: one
    for one in (
        Architecture(pipeline="StableDiffusionPipeline", has_checker=True),
        Architecture(pipeline="StableDiffusionXLPipeline", encoders=_TWO),
    )
}


def architecture(index: object) -> Architecture:
    """What a ``model_index.json`` describes. Raises UnfitModel for a pipeline that is not supported."""
    name = index.get("_class_name") if isinstance(index, Mapping) else None
    if name not in ARCHITECTURES:
        raise UnfitModel(f"is a {name}; name a {NAMES}")
    return ARCHITECTURES[name]


def denoiser_folder(path: str | Path) -> str:
    """The subfolder of a diffusers folder with the weights that no column depends on: ``unet`` or ``transformer``."""
    return "transformer" if (Path(path) / "transformer").is_dir() else "unet"


def side_pixels(config: Mapping[str, Any], scale: int) -> int:
    """Side in pixels of the images a denoiser of this config was trained on; ``scale``: pixels a latent."""
    return int(config["sample_size"] * scale)
