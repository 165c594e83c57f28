"""The configs of a checkpoint file's networks, in diffusers' and transformers' terms, from the shapes of its tensors.

Shapes leave two things open. The number of attention heads is that of the published models: 8 of a 1.x UNet, else 64
numbers a head. The VAE's scaling factor is the one its generation was trained with.
"""

from __future__ import annotations

import re
from typing import Any

from surd.pretrained.checkpoint_file import ENCODERS, UNET, VAE, CheckpointFile, Shapes

_HEAD = 64
_SIZE_AND_CROP = 6  # numbers that SDXL's UNet takes beside the pooled text
_SCALING = {"1": 0.18215, "2": 0.18215, "xl": 0.13025}
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def below(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """The tensors whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _count(names: Shapes, prefix: str) -> int:
    """How many numbered parts there are below ``prefix``."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for name in names if (match := pattern.match(name))})


def unet_config(file: CheckpointFile) -> dict[str, Any]:
    """Of a ``UNet2DConditionModel``. Raises KeyError when a tensor is missing that says how it is made."""
    shapes = below(file.shapes, UNET)
    widths: list[int] = []
    depths: list[int] = []
    layers = 0
    for number in range(1, _count(shapes, "input_blocks")):
        if f"input_blocks.{number}.0.op.weight" in shapes:
            continue
        if len(widths) == 0 or f"input_blocks.{number - 1}.0.op.weight" in shapes:
            widths.append(shapes[f"input_blocks.{number}.0.in_layers.2.weight"][0])
            depths.append(_count(shapes, f"input_blocks.{number}.1.transformer_blocks"))
        layers += len(widths) == 1
    kinds = ["CrossAttn" if depth else "" for depth in depths]
    depths[-1] = depths[-1] or _count(shapes, "middle_block.1.transformer_blocks")
    context = next(shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    linear = next(shape for name, shape in shapes.items() if name.endswith(".proj_in.weight"))
    config: dict[str, Any] = {
        "sample_size": file.pixels // vae_scale(file),
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "transformer_layers_per_block": tuple(depth or 1 for depth in depths),
        "cross_attention_dim": context,
        "use_linear_projection": len(linear) == 2,
        "attention_head_dim": 8 if file.generation == "1" else tuple(max(1, width // _HEAD) for width in widths),
    }
    if file.generation == "xl":
        pooled = file.shapes[f"{ENCODERS['xl'][1]}text_projection"][1]
        taken = shapes["label_emb.0.0.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (taken - pooled) // _SIZE_AND_CROP,
            "projection_class_embeddings_input_dim": taken,
        }
    return config


def vae_scale(file: CheckpointFile) -> int:
    """Pixels a latent."""
    levels: int = 2 ** (_count(file.shapes, f"{VAE}encoder.down") - 1)
    return levels


def vae_config(file: CheckpointFile) -> dict[str, Any]:
    """Of an ``AutoencoderKL``. Raises KeyError when a tensor is missing that says how it is made."""
    shapes = below(file.shapes, VAE)
    levels = _count(shapes, "encoder.down")
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["post_quant_conv.weight"][1],
        "block_out_channels": tuple(shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(shapes, "encoder.down.0.block"),
        "sample_size": file.pixels,
        "scaling_factor": _SCALING[file.generation],
    }


def clip_config(shapes: Shapes) -> dict[str, Any]:
    """Of OpenAI's CLIP in transformers' layout: ``shapes`` without prefixes. Raises KeyError as above."""
    tokens, width = shapes["embeddings.token_embedding.weight"]
    return _text_config(
        tokens,
        width,
        positions=shapes["embeddings.position_embedding.weight"][0],
        layers=_count(shapes, "encoder.layers"),
        intermediate=shapes["encoder.layers.0.mlp.fc1.weight"][0],
    ) | {"hidden_act": "quick_gelu"}


def open_clip_config(shapes: Shapes, layers: int) -> dict[str, Any]:
    """Of an OpenCLIP text encoder, of which ``layers`` are used. Raises KeyError as above."""
    tokens, width = shapes["token_embedding.weight"]
    return _text_config(
        tokens,
        width,
        positions=shapes["positional_embedding"][0],
        layers=layers,
        intermediate=shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
    ) | {"hidden_act": "gelu", "projection_dim": shapes["text_projection"][1] if "text_projection" in shapes else 512}


def open_clip_layers(shapes: Shapes) -> int:
    """All layers of an OpenCLIP text encoder."""
    return _count(shapes, "transformer.resblocks")


def _text_config(tokens: int, width: int, *, positions: int, layers: int, intermediate: int) -> dict[str, Any]:
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": positions,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def make_scheduler(file: CheckpointFile) -> Any:
    """The scheduler that the published models of a generation come with."""
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

    common = _BETAS | {"prediction_type": file.prediction, "steps_offset": 1}
    if file.generation == "xl":
        return EulerDiscreteScheduler(**common, timestep_spacing="leading", rescale_betas_zero_snr=file.zero_snr)
    if file.generation == "2" or file.prediction == "v_prediction":
        return DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=False, rescale_betas_zero_snr=file.zero_snr)
    return PNDMScheduler(**common, skip_prk_steps=True, set_alpha_to_one=False)
