"""Which diffusion models can be trained for, what their parts are called, and what all others are refused as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = "Stable Diffusion 1.x, 2.x, XL or 3 or a PixArt-Sigma"


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
        Architecture(pipeline="PixArtSigmaPipeline", denoiser="transformer"),
        Architecture(pipeline="StableDiffusion3Pipeline", denoiser="transformer", encoders=(*_TWO, "text_encoder_3")),
    )
}


def architecture(index: object) -> Architecture:
    """What a ``model_index.json`` describes. Raises UnfitModel for a pipeline that is not supported."""
    name = index.get("_class_name") if isinstance(index, Mapping) else None
    if name not in ARCHITECTURES:
        raise UnfitModel(f"is a {name}; name a {NAMES}")
    return ARCHITECTURES[name]


def kind_of(pipe: object) -> Architecture:
    """The architecture of a pipeline or of a pipeline's class, ours or diffusers'."""
    bases = (pipe if isinstance(pipe, type) else type(pipe)).__mro__
    return next(ARCHITECTURES[one.__name__] for one in bases if one.__name__ in ARCHITECTURES)


def denoiser_folder(path: str | Path) -> str:
    """The subfolder of a diffusers folder with the weights that no column depends on: ``unet`` or ``transformer``."""
    return "transformer" if (Path(path) / "transformer").is_dir() else "unet"
