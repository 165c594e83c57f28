"""Models in published architectures with random weights that are made on their device: folders of configs,
tokenizers and processors, and the two loaders that read weights patched to make them instead.

How long a network takes does not depend on its weights, and 14 GB of a 7B LLM are made on a GPU in seconds where a
download takes minutes. Everything around the weights is loaded as ever.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
import transformers

from surd.pretrained.clip_vocabulary import stable_diffusion_tokenizer

VOCABULARY = 49_408  # of CLIP's byte pairs, which every model here reads: no other real vocabulary is at hand offline
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The sizes of every model; ``image`` is the side of CLIP's and the captioner's pictures."""

    image: int
    patch: int
    clip_vision: dict[str, int]
    clip_text: dict[str, int]
    clip_width: int
    captioner_vision: dict[str, int]
    captioner_bridge: dict[str, int]
    captioner_text: dict[str, int]
    llm: dict[str, int]
    diffusion: dict[str, dict[str, Any]]


def _layers(width: int, layers: int, heads: int, inner: int) -> dict[str, int]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
    }  # fmt: skip


_OPT = {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 10_240}
_TINY_OPT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64}
_BLOCKS = {"sd15": "CCCD", "sdxl": "DCC"}
_TEXT_TIME = {"addition_embed_type": "text_time", "use_linear_projection": True}
_SD15 = {
    "unet": {
        "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "vae": {"block_out_channels": (128, 256, 512, 512), "sample_size": 512, "scaling_factor": 0.18215},
    "text_encoder": _layers(768, 12, 12, 3072),
}  # fmt: skip
_SDXL = {
    "unet": {
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048, "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816, **_TEXT_TIME,
    },
    "vae": {"block_out_channels": (128, 256, 512, 512), "sample_size": 1024, "scaling_factor": 0.13025},
    "text_encoder": _layers(768, 12, 12, 3072),
    "text_encoder_2": _layers(1280, 32, 20, 5120) | {"projection_dim": 1280},
}  # fmt: skip
_TINY_VAE = {"block_out_channels": (32, 64, 64, 64), "sample_size": 64, "scaling_factor": 0.18215}
_TINY = {
    "sd15": {
        "unet": {
            "sample_size": 8, "block_out_channels": (32, 32, 64, 64), "attention_head_dim": 8,
            "cross_attention_dim": 64,
        },
        "vae": _TINY_VAE,
        "text_encoder": _layers(64, 2, 1, 128),
    },
    "sdxl": {
        "unet": {
            "sample_size": 8, "block_out_channels": (32, 64, 64), "attention_head_dim": (1, 1, 1),
            "transformer_layers_per_block": (1, 1, 2), "cross_attention_dim": 192, "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 32 + 6 * 16, **_TEXT_TIME,
        },
        "vae": _TINY_VAE,
        "text_encoder": _layers(64, 2, 1, 128),
        "text_encoder_2": _layers(128, 2, 2, 128) | {"projection_dim": 32},
    },
}  # fmt: skip

#: CLIP ViT-L/14, BLIP-2 with OPT 2.7B, LLaMA 7B, Stable Diffusion 1.5 and XL.
REAL = Shapes(
    image=224,
    patch=14,
    clip_vision=_layers(1024, 24, 16, 4096),
    clip_text=_layers(768, 12, 12, 3072),
    clip_width=768,
    captioner_vision=_layers(1408, 39, 16, 6144),
    captioner_bridge=_layers(768, 12, 12, 3072),
    captioner_text=_OPT,
    llm=_layers(4096, 32, 32, 11_008),
    diffusion={"sd15": _SD15, "sdxl": _SDXL},
)
#: The same architectures, so small that a CPU takes seconds.
TINY = Shapes(
    image=32,
    patch=8,
    clip_vision=_layers(32, 2, 2, 64),
    clip_text=_layers(32, 2, 2, 64),
    clip_width=16,
    captioner_vision=_layers(32, 2, 2, 64),
    captioner_bridge=_layers(32, 2, 2, 64),
    captioner_text=_TINY_OPT,
    llm=_layers(64, 4, 2, 128),
    diffusion=_TINY,
)


def save_clip(folder: Path, shapes: Shapes) -> str:
    """CLIP without weights; returns its folder, as the functions below do."""
    looks = {"image_size": shapes.image, "patch_size": shapes.patch}
    transformers.CLIPConfig(
        vision_config=shapes.clip_vision | looks, text_config=shapes.clip_text | _clip_text(),
        projection_dim=shapes.clip_width, architectures=["CLIPModel"],
    ).save_pretrained(folder)  # fmt: skip
    side = {"height": shapes.image, "width": shapes.image}
    transformers.CLIPImageProcessor(size={"shortest_edge": shapes.image}, crop_size=side).save_pretrained(folder)
    stable_diffusion_tokenizer().save_pretrained(folder)
    return str(folder)


def save_captioner(folder: Path, shapes: Shapes) -> str:
    """BLIP-2: a vision tower, a Q-Former of 32 queries and OPT."""
    looks = {"image_size": shapes.image, "patch_size": shapes.patch}
    text: dict[str, Any] = {
        "model_type": "opt", "vocab_size": 50_304, "word_embed_proj_dim": shapes.captioner_text["hidden_size"],
        "pad_token_id": 1, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1,
    }  # fmt: skip
    transformers.Blip2Config(
        vision_config=shapes.captioner_vision | looks,
        qformer_config=shapes.captioner_bridge | {"encoder_hidden_size": shapes.captioner_vision["hidden_size"]},
        text_config=shapes.captioner_text | text,
        num_query_tokens=32,
        image_token_index=VOCABULARY,
        architectures=["Blip2ForConditionalGeneration"],
    ).save_pretrained(folder)  # fmt: skip
    words = stable_diffusion_tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    side = {"height": shapes.image, "width": shapes.image}
    transformers.Blip2Processor(transformers.BlipImageProcessor(size=side), words, num_query_tokens=32).save_pretrained(
        folder
    )
    return str(folder)


def save_llm(folder: Path, shapes: Shapes) -> str:
    """LLaMA."""
    transformers.LlamaConfig(
        **shapes.llm, vocab_size=VOCABULARY, max_position_embeddings=4096, bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1, architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip
    words = stable_diffusion_tokenizer()
    words.model_max_length = 4096
    words.save_pretrained(folder)
    return str(folder)


def save_diffusion(folder: Path, name: str, shapes: Shapes) -> str:
    """Stable Diffusion 1.5 (``sd15``) or XL (``sdxl``)."""
    parts = shapes.diffusion[name]
    kinds = ["CrossAttn" * (kind == "C") for kind in _BLOCKS[name]]
    unet = parts["unet"] | {
        "_class_name": "UNet2DConditionModel", "layers_per_block": 2,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
    }  # fmt: skip
    vae = parts["vae"] | {
        "_class_name": "AutoencoderKL", "layers_per_block": 2, "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    }  # fmt: skip
    index: dict[str, Any] = {
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    }  # fmt: skip
    for part, config in (("unet", unet), ("vae", vae)):
        _write_json(folder / part / "config.json", config)
    transformers.CLIPTextConfig(**parts["text_encoder"], **_clip_text()).save_pretrained(folder / "text_encoder")
    stable_diffusion_tokenizer().save_pretrained(folder / "tokenizer")
    if name == "sdxl":
        second = transformers.CLIPTextConfig(**parts["text_encoder_2"], **_clip_text(), hidden_act="gelu")
        second.save_pretrained(folder / "text_encoder_2")
        stable_diffusion_tokenizer("!").save_pretrained(folder / "tokenizer_2")
        index |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    diffusers.DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
    ).save_pretrained(folder / "scheduler")
    pipeline = "StableDiffusionXLPipeline" if name == "sdxl" else "StableDiffusionPipeline"
    _write_json(folder / "model_index.json", {"_class_name": pipeline} | index)
    return str(folder)


@contextmanager
def random_weights(device: torch.device) -> Iterator[None]:
    """While this lasts, models are made with random weights of a fixed seed on ``device`` instead of being read."""

    def load_weights(auto: Any, ref: str, dtype: torch.dtype = torch.float32, **_: Any) -> Any:
        config = transformers.AutoConfig.from_pretrained(ref)
        with _seeded(device):
            return auto.from_config(config, dtype=dtype).eval()

    def load_networks(path: str, index: dict[str, Any], kind: Any, left_out: Any, dtype: torch.dtype) -> dict[str, Any]:
        networks = {part: _network(path, part, index[part]) for part in kind.networks if part not in left_out}
        for part, network in networks.items():  # as a plain module: diffusers' own ``to`` warns of parts it never has
            torch.nn.Module.to(network, torch.float32 if part == "vae" else dtype)
        return networks

    def _network(path: str, part: str, named: list[str]) -> Any:
        network = getattr(importlib.import_module(named[0]), named[1])
        with _seeded(device):
            if named[0] == "diffusers":
                return network.from_config(network.load_config(path, subfolder=part))
            return network(network.config_class.from_pretrained(path, subfolder=part))

    readers = ("pipeline.models.transformers_clip", "pipeline.models.captioner", "pretrained.language_model")
    with ExitStack() as stack:
        for module in readers:
            stack.enter_context(patch(f"surd.{module}.load_weights", load_weights))
        stack.enter_context(patch("sur_adapter.base_model._load_networks", load_networks))
        yield


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """Tensors are made on ``device``, with random numbers of the seed."""
    torch.manual_seed(_SEED)
    with torch.device(device):
        yield


def _clip_text() -> dict[str, int]:
    return {
        "vocab_size": VOCABULARY, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1,
        "pad_token_id": VOCABULARY - 1, "max_position_embeddings": 77,
    }  # fmt: skip


def _write_json(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
