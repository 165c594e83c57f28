"""The parts of a pipeline from a single-file checkpoint: networks with whole weights, tokenizers, scheduler.

diffusers converts the names of the tensors; its own ``from_single_file`` would ask the hub for configs and
vocabulary, and leaves out unmentioned what a file lacks. Configs come from shapes here, the vocabulary from open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from surd.pretrained import checkpoint_configs as configs
from surd.pretrained.checkpoint_file import ENCODERS, UNET, VAE, CheckpointFile
from surd.pretrained.clip_vocabulary import END, stable_diffusion_tokenizer
from surd.pretrained.diffusion import UnfitModel

Weights = dict[str, Tensor]
#: Tensors that checkpoints hold and no network of ours computes with.
_UNUSED = ("position_ids", "logit_scale", "attn_mask", "loss.", "text_projection")


def load_checkpoint(
    file: CheckpointFile, left_out: Collection[str] = (), dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """The parts of the pipeline by name, networks in ``dtype`` except the VAE, which is in float32.

    Parts named in ``left_out`` are None and never read. Raises UnfitModel when a network lacks weights, or has others
    than its kind.
    """
    kind = file.architecture
    makers: dict[str, Callable[[], Any]] = {
        "unet": lambda: _unet(file, dtype),
        "vae": lambda: _vae(file),
        "text_encoder": lambda: _text_encoder(file, dtype),
        "text_encoder_2": lambda: _second_text_encoder(file, dtype),
        "tokenizer": lambda: stable_diffusion_tokenizer("!" if file.generation == "2" else END),
        "tokenizer_2": lambda: stable_diffusion_tokenizer("!"),
        "scheduler": lambda: configs.make_scheduler(file),
    }
    names = (*kind.networks, *kind.tokenizers, "scheduler")
    try:
        parts = {name: None if name in left_out else makers[name]() for name in names}
    except (KeyError, IndexError, StopIteration) as error:
        raise UnfitModel(f"lacks the tensor {error}; copy the whole file") from None
    if kind.has_checker:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return parts


def make_pipeline(file: CheckpointFile, left_out: Collection[str] = (), dtype: torch.dtype = torch.float32) -> Any:
    """The diffusers pipeline of a checkpoint. Raises UnfitModel as ``load_checkpoint`` does."""
    import diffusers

    return getattr(diffusers, file.architecture.pipeline)(**load_checkpoint(file, left_out, dtype))


def _read(file: CheckpointFile, prefix: str, without: str | None = None) -> Weights:
    """The tensors below a prefix, with their whole names."""
    from safetensors import safe_open

    with safe_open(file.path, "pt") as tensors:
        names = [name for name in file.shapes if name.startswith(prefix) and not (without and without in name)]
        return {name: tensors.get_tensor(name) for name in names}


def _unet(file: CheckpointFile, dtype: torch.dtype) -> Any:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = configs.unet_config(file)
    weights = convert_ldm_unet_checkpoint(_read(file, UNET), config)
    unet = _filled(lambda: UNet2DConditionModel(**config), weights, dtype)
    unet.register_to_config(_name_or_path=str(file.path))  # as from_pretrained does: errors name the model
    return unet


def _vae(file: CheckpointFile) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = configs.vae_config(file)
    return _filled(lambda: AutoencoderKL(**config), convert_ldm_vae_checkpoint(_read(file, VAE), config), torch.float32)


def _text_encoder(file: CheckpointFile, dtype: torch.dtype) -> Any:
    """OpenAI's CLIP; of a 2.x OpenCLIP, whose last layer is left out, as the model was trained."""
    from transformers import CLIPTextConfig, CLIPTextModel

    prefix = ENCODERS[file.generation][0]
    if file.generation == "2":
        shapes = configs.below(file.shapes, prefix)
        layers = configs.open_clip_layers(shapes) - 1
        config = CLIPTextConfig(**configs.open_clip_config(shapes, layers))
        return _filled(
            lambda: CLIPTextModel(config), _from_open_clip(file, prefix, config, f".resblocks.{layers}."), dtype
        )
    # The oldest converters left out the "text_model" that the others have.
    weights = {
        name.removeprefix(prefix).removeprefix("text_model."): tensor for name, tensor in _read(file, prefix).items()
    }
    config = CLIPTextConfig(**configs.clip_config({name: tuple(tensor.shape) for name, tensor in weights.items()}))
    return _filled(lambda: CLIPTextModel(config), weights, dtype)


def _second_text_encoder(file: CheckpointFile, dtype: torch.dtype) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    prefix = ENCODERS["xl"][1]
    shapes = configs.below(file.shapes, prefix)
    config = CLIPTextConfig(**configs.open_clip_config(shapes, configs.open_clip_layers(shapes)))
    return _filled(lambda: CLIPTextModelWithProjection(config), _from_open_clip(file, prefix, config), dtype)


def _from_open_clip(file: CheckpointFile, prefix: str, config: Any, without: str | None = None) -> Weights:
    """The tensors of an OpenCLIP text encoder under transformers' names."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    converted: Weights = convert_open_clip_checkpoint(
        SimpleNamespace(config=config), _read(file, prefix, without), prefix=prefix
    )
    return converted


def _filled(make: Callable[[], Any], weights: Weights, dtype: torch.dtype) -> Any:
    """A network of these weights and no others. Raises UnfitModel if one is missing, too many, or of another shape."""
    from accelerate import init_empty_weights

    with init_empty_weights():  # of parameters alone: buffers are in no file
        network = make()
    name, expected = type(network).__name__, network.state_dict()
    if name == "CLIPTextModel":  # transformers has dropped a level of its names
        weights = {key.removeprefix("text_model."): tensor for key, tensor in weights.items()}
    weights = {key: tensor for key, tensor in weights.items() if key in expected or not _is_unused(key)}
    if lost := sorted(expected.keys() - weights.keys()):
        raise UnfitModel(f"lacks the weights {lost[0]} of its {name}; copy the whole file, or name another")
    if odd := sorted(weights.keys() - expected.keys()):
        raise UnfitModel(f"has weights {odd[0]} that no {name} has; name another")
    if odd := sorted(key for key, tensor in weights.items() if tensor.shape != expected[key].shape):
        raise UnfitModel(
            f"has weights {odd[0]} of shape {list(weights[odd[0]].shape)}, which no {name} has; name another"
        )
    whole = {key: tensor.to(dtype, copy=True) for key, tensor in weights.items()}  # the file may be replaced meanwhile
    network.load_state_dict(whole, assign=True)
    return network.eval()


def _is_unused(key: str) -> bool:
    return any(part in key for part in _UNUSED)
