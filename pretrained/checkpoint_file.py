"""Single-file checkpoints of diffusion models: what a ``.safetensors`` file holds, by its header alone.

Such files hold the weights of a whole Stable Diffusion in the layout of the original code. Of what they leave out
(which prediction, which size of picture) a 1.x and an XL have one usual answer; a 2.x has two, and is asked for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import yaml

from surd.pretrained.diffusion import ARCHITECTURES, Architecture, UnfitModel

Shapes = Mapping[str, tuple[int, ...]]  # of the tensors of a file, by name
Generation = Literal["1", "2", "xl"]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
#: Where the text encoders lie: OpenAI's CLIP in the layout of transformers, OpenCLIP in its own.
ENCODERS: dict[Generation, tuple[str, ...]] = {
    "1": ("cond_stage_model.transformer.",),
    "2": ("cond_stage_model.model.",),
    "xl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}
PIPELINES: dict[Generation, str] = {
    "1": "StableDiffusionPipeline",
    "2": "StableDiffusionPipeline",
    "xl": "StableDiffusionXLPipeline",
}
SUFFIX = ".safetensors"
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
_MOST_HEADER = 100_000_000  # bytes: the format's own limit
_MOST_YAML = 1_000_000  # bytes
#: What else a UNet of this layout may take beside four channels of noise.
_CHANNELS = {5: "a depth model", 7: "an upscaler", 8: "an instruct-pix2pix model", 9: "an inpainting model"}
_WHOLE = "name a whole Stable Diffusion 1.x, 2.x or XL"
#: What tells files of another kind, in this order: a pattern that one of its names matches, and what it is.
_OTHERS = (
    (r"lora_|\.lora\.|(^|\.)hada_w|(^|\.)lokr_w|oft_blocks|\.alpha$", "a LoRA, which changes a model and is not one"),
    (r"^(control_model|input_hint_block|controlnet_\w+)\.", "a ControlNet"),
    (r"^(ip_adapter|image_proj)\.", "an IP-Adapter"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"^(emb_params|string_to_param|clip_[lg])$", "a textual inversion"),
    (r"distilled_guidance_layer\.", "a Chroma"),
    (r"double_blocks\.\d+\.img_attn\.|^single_transformer_blocks\.", "a Flux"),
    (r"joint_blocks\.\d+\.", "a Stable Diffusion 3 in a single file"),
    (r"^(model\.diffusion_model\.)?(y_embedder\.y_embedding|caption_projection\.linear_1)", "a PixArt"),
    (r"clip_txt_mapper\.|channelwise\.", "a Stable Cascade"),
    (r"blocks\.\d+\.cross_attn\.norm_k\.", "a Wan"),
    (r"transformer_blocks\.\d+\.img_mlp\.", "a Qwen-Image"),
    (r"^(text_model\.|encoder\.block\.\d)", "a text encoder alone"),
    (r"^(down_blocks|up_blocks|mid_block)\.", "one network in the layout of diffusers, not a whole model"),
)


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """``generation`` of Stable Diffusion, ``shapes`` of all tensors, ``prediction`` of the UNet (as schedulers call
    it), ``pixels``: side of the images it was made for, ``zero_snr``: whether its last timestep is noise alone."""

    path: Path
    generation: Generation
    shapes: Shapes
    prediction: Literal["epsilon", "v_prediction"]
    pixels: int
    zero_snr: bool

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[PIPELINES[self.generation]]


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is that of a file, which no diffusers model is. What it holds ``open_checkpoint`` says."""
    return Path(path).is_file()


def open_checkpoint(path: str | Path) -> CheckpointFile:
    """What a checkpoint file is; no weights are read.

    Raises UnfitModel when it is not a safetensors file, damaged, of another kind, or does not say what it predicts.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        pickled = path.suffix.lower() in PICKLED
        why = "would have to be unpickled; convert it" if pickled else f"is a file, but not a {SUFFIX}; name a folder,"
        raise UnfitModel(f"{why} to {SUFFIX}" if pickled else f"{why} or a checkpoint in that format")
    shapes, metadata = read_header(path)
    generation = _generation(shapes)
    prediction = _prediction(path, generation, shapes, metadata)
    usual = 1024 if generation == "xl" else 768 if (generation, prediction) == ("2", "v_prediction") else 512
    size = re.fullmatch(r"(\d{2,4})x\1", str(metadata.get("modelspec.resolution", "")))
    return CheckpointFile(
        path=path,
        generation=generation,
        shapes=shapes,
        prediction=prediction,
        pixels=int(size[1]) if size else usual,
        zero_snr="ztsnr" in shapes,
    )


def read_header(path: Path) -> tuple[Shapes, dict[str, Any]]:
    """Shapes of the tensors of a safetensors file, and what it says about itself. Raises UnfitModel if damaged.

    Format: https://github.com/huggingface/safetensors#format
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if 0 < length <= min(_MOST_HEADER, size - 8) else b""
    except OSError as error:
        raise UnfitModel(f"cannot be read ({error.strerror}); make it readable") from None
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        shapes = {name: tuple(map(int, tensor["shape"])) for name, tensor in header.items()}
        end = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise UnfitModel("is not a valid safetensors file; download it again") from None
    if end > size:
        raise UnfitModel(f"is cut off: it has {size:,} of {end:,} bytes; download it again")
    return shapes, dict(metadata)


def _generation(shapes: Shapes) -> Generation:
    """Which Stable Diffusion a file holds. Raises UnfitModel when it is anything else, or not whole."""
    unet = shapes.get(f"{UNET}input_blocks.0.0.weight")
    if unet is None or any(name.startswith("control_model.") for name in shapes):
        raise UnfitModel(f"is {_other_kind(shapes)}; {_WHOLE}")
    if len(unet) != 4 or unet[1] != 4:
        kind = _CHANNELS.get(unet[1] if len(unet) > 1 else 0, f"a UNet of inputs {list(unet)}")
        raise UnfitModel(f"is {kind}; {_WHOLE}")
    if "edm_mean" in shapes:
        raise UnfitModel(f"is a Playground 2.5; {_WHOLE}")
    has = {kind: all(_has(shapes, prefix) for prefix in prefixes) for kind, prefixes in ENCODERS.items()}
    generation = next((kind for kind, all_there in has.items() if all_there), None)
    if generation is None:
        if _has(shapes, "conditioner.embedders.0.model."):
            raise UnfitModel(f"is an SDXL refiner; {_WHOLE}")
        raise UnfitModel(f"has no text encoder; {_WHOLE}")
    if generation != "xl" and _has(shapes, f"{UNET}label_emb."):
        raise UnfitModel(f"is a Stable Diffusion that takes pictures or sizes beside the prompt; {_WHOLE}")
    if not _has(shapes, f"{VAE}decoder.") or not _has(shapes, f"{VAE}encoder."):
        raise UnfitModel("has no VAE; name one that has its VAE baked in")
    return generation


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _other_kind(shapes: Shapes) -> str:
    """What a file is that holds no Stable Diffusion."""
    for pattern, kind in _OTHERS:
        if any(re.search(pattern, name) for name in shapes):
            return kind
    if all(re.match(r"(first_stage_model\.|vae\.)?(encoder|decoder|quant_conv|post_quant_conv|loss)\b", name)
           for name in shapes):  # fmt: skip
        return "a VAE alone" if shapes else "an empty file"
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    try:
        kind = infer_diffusers_model_type({name: SimpleNamespace(shape=shape) for name, shape in shapes.items()})
    except Exception:  # whatever tensors of odd shapes make it raise
        kind = "v1"
    return f"a {kind!r}, as diffusers calls it" if kind != "v1" else "not a diffusion model that is known here"


def _prediction(
    path: Path, generation: Generation, shapes: Shapes, metadata: Mapping[str, Any]
) -> Literal["epsilon", "v_prediction"]:
    """What the UNet predicts, by a tensor of that name, the file's metadata, or the ``.yaml`` beside it."""
    stated = str(metadata.get("modelspec.prediction_type", "")).lower()
    if "v_pred" in shapes or stated in ("v", "v_prediction"):
        return "v_prediction"
    if stated == "epsilon":
        return "epsilon"
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        return "v_prediction" if _parameterization(beside) == "v" else "epsilon"
    if generation == "2":
        raise UnfitModel(
            f"is a Stable Diffusion 2.x that does not say what it predicts; put its config beside it as {beside.name}:"
            " v2-inference-v.yaml for one of 768 pixels, v2-inference.yaml for one of 512"
        )
    return "epsilon"


def _parameterization(file: Path) -> str:
    """``v`` or ``eps`` of a config of the original code, where eps is left out."""
    try:
        with file.open("rb") as stream:
            config = yaml.safe_load(stream.read(_MOST_YAML))
        return str(config["model"]["params"].get("parameterization", "eps"))
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError, RecursionError):
        raise UnfitModel(f"has beside it a {file.name} that is not a config of the original code; remove it") from None
