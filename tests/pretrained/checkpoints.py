"""Small Stable Diffusions with random weights, and single files of the same weights in the original layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from surd.pretrained.clip_vocabulary import END, stable_diffusion_tokenizer

TOKENS = 49408
GENERATIONS = ("1", "2", "xl")


def tiny_pipeline(generation: str) -> Any:
    """Of the published architecture, with the head counts that its generation has: 8, else 64 numbers a head."""
    torch.manual_seed(0)
    xl = generation == "xl"
    widths = (32, 64) if generation == "1" else (64, 128)
    unet: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D") if xl else ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D") if xl else ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 64 + 128 * xl,
        "attention_head_dim": 8 if generation == "1" else (1, 2),
        "use_linear_projection": generation != "1",
    }
    if xl:
        unet |= {
            "transformer_layers_per_block": (1, 2), "addition_embed_type": "text_time", "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 96 + 6 * 16,
        }  # fmt: skip
    parts: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(32, 64, 64), down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=2,
            up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, sample_size=32,
            scaling_factor=0.13025 if xl else 0.18215,
        ),
        "text_encoder": CLIPTextModel(_text(64, "gelu" if generation == "2" else "quick_gelu")),
        "tokenizer": stable_diffusion_tokenizer("!" if generation == "2" else END),
        "unet": diffusers.UNet2DConditionModel(**unet),
    }  # fmt: skip
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if xl:
        return diffusers.StableDiffusionXLPipeline(
            **parts, text_encoder_2=CLIPTextModelWithProjection(_text(128, "gelu", projection_dim=96)),
            tokenizer_2=stable_diffusion_tokenizer("!"),
            scheduler=diffusers.EulerDiscreteScheduler(**betas, timestep_spacing="leading"),
        )  # fmt: skip
    prediction = "v_prediction" if generation == "2" else "epsilon"
    scheduler = diffusers.DDIMScheduler if generation == "2" else diffusers.PNDMScheduler
    more = {"clip_sample": False} if generation == "2" else {"skip_prk_steps": True}
    return diffusers.StableDiffusionPipeline(
        **parts, scheduler=scheduler(**betas, **more, set_alpha_to_one=False, prediction_type=prediction),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _text(width: int, activation: str, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=TOKENS, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, hidden_act=activation,
        num_attention_heads=width // 64, max_position_embeddings=77, bos_token_id=TOKENS - 2, eos_token_id=TOKENS - 1,
        pad_token_id=TOKENS - 1, **more,
    )  # fmt: skip


def write_checkpoint(
    pipe: Any, file: Path, *, metadata: Mapping[str, str] | None = None, more: Mapping[str, Tensor] | None = None
) -> Path:
    """The pipeline's weights in one file as the original code names them. ``more`` adds tensors or replaces them."""
    save_file(original_weights(pipe) | dict(more or {}), file, metadata=dict(metadata or {}))
    return file


def original_weights(pipe: Any) -> dict[str, Tensor]:
    """Under the names of the original code."""
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in original_unet(pipe.unet)}
    weights |= {f"first_stage_model.{name}": tensor for name, tensor in original_vae(pipe.vae)}
    clip = {f"transformer.text_model.{name}": tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    if hasattr(pipe, "text_encoder_2"):
        weights |= {f"conditioner.embedders.0.{name}": tensor for name, tensor in clip.items()}
        weights |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in _open_clip(pipe.text_encoder_2)}
    elif pipe.text_encoder.config.hidden_act == "gelu":
        weights |= {f"cond_stage_model.model.{name}": tensor for name, tensor in _open_clip(pipe.text_encoder)}
        last = {
            name.replace(".0.", ".2.", 1): tensor + 1 for name, tensor in weights.items() if ".resblocks.0." in name
        }
        weights |= last  # the layer that a 2.x leaves out
    else:
        weights |= {f"cond_stage_model.{name}": tensor for name, tensor in clip.items()}
    return {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}


_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2",
}  # fmt: skip


def original_unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    layers = unet.config.layers_per_block
    for name, tensor in unet.state_dict().items():
        part, _, kind = name.rpartition(".")
        place = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
        if part in _UNET:
            yield f"{_UNET[part]}.{kind}", tensor
        elif place and place[1] == "down":
            number = int(place[2]) * (layers + 1) + 1
            sampler = place[3] == "downsamplers"
            block = f"input_blocks.{number + (layers if sampler else int(place[4]))}"
            yield _block(block, place[3], place[5].replace("conv.", "op.") if sampler else place[5]), tensor
        elif place:
            level, sampler = int(place[2]), place[3] == "upsamplers"
            block = f"output_blocks.{level * (layers + 1) + (layers if sampler else int(place[4]))}"
            has_attention = "CrossAttn" in unet.config.up_block_types[level]
            yield _block(block, place[3], place[5], 1 + has_attention), tensor
        else:
            middle = re.match(r"mid_block\.(\w+)\.(\d+)\.(.*)", name)
            assert middle, name
            number = 1 if middle[1] == "attentions" else 2 * int(middle[2])
            rest = _resnet(middle[3]) if middle[1] == "resnets" else middle[3]
            yield f"middle_block.{number}.{rest}", tensor


def _block(block: str, kind: str, rest: str, sampler: int = 0) -> str:
    if kind == "resnets":
        return f"{block}.0.{_resnet(rest)}"
    return f"{block}.{1 if kind == 'attentions' else sampler}.{rest}"


def _resnet(rest: str) -> str:
    head, _, kind = rest.rpartition(".")
    return f"{_RESNET[head]}.{kind}"


def original_vae(vae: Any) -> Iterator[tuple[str, Tensor]]:
    levels = len(vae.config.block_out_channels)
    for whole, tensor in vae.state_dict().items():
        name = whole.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            name = name.replace("mid_block.attentions.0.", "mid.attn_1.").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out").replace(".to_", ".")
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        yield name, tensor


def _open_clip(encoder: Any) -> Iterator[tuple[str, Tensor]]:
    weights = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
    }  # fmt: skip
    for name, tensor in weights.items():
        layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
        if name in names:
            yield names[name], tensor
        elif name == "text_projection.weight":
            yield "text_projection", tensor.T
        elif layer and (joined := re.match(r"self_attn\.q_proj\.(weight|bias)", layer[2])):
            rows = [weights[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            yield f"transformer.resblocks.{layer[1]}.attn.in_proj_{joined[1]}", torch.cat(rows)
        elif layer and not re.match(r"self_attn\.[kv]_proj", layer[2]):
            rest = layer[2].replace("layer_norm", "ln_").replace("fc1", "c_fc").replace("fc2", "c_proj")
            yield f"transformer.resblocks.{layer[1]}.{rest.replace('self_attn', 'attn')}", tensor
