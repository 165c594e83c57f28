"""LoRA controls of bench-effect: trained on the adapter's data for its steps, with its batches, noise and losses.

``lora-unet`` is on the UNet's cross-attention, the text states frozen; ``lora-text`` on the text encoder. Whatever part
of a gain LoRA reaches too comes from the data, and not from the adapter or its LLM.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sur_adapter.adapter import SURAdapterOutput
from sur_adapter.base_model import Pipeline, load_base, pick_device
from sur_adapter.data.batch import Batch
from sur_adapter.sampling.draw import computing_in
from sur_adapter.training.conditions import SIMPLE, Conditioner, Conditions
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.objective import Objective
from sur_adapter.training.trainer import draw_seed, learning_rates
from surd.schemas import SurdError

UNET, TEXT = "lora-unet", "lora-text"
PARTS = {UNET: "unet", TEXT: "text_encoder"}
TARGETS = {
    UNET: ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    TEXT: ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}
FILE = "lora.safetensors"


def train_lora(kind: str, config: TrainConfig, weights: int) -> dict[str, Any]:
    """Train LoRA of about this many weights and write it into ``config.out``; returns what to record of it.

    The loss is the denoising loss of the adapter's training; for ``lora-text`` its prompt alignment too, where
    ``w_prompt`` is not 0: the UNet's LoRA leaves the text states as they are, so they have nothing to learn from it.
    Batches, noise and dropped captions are those of an adapter's training with the same seed.
    """
    if config.w_llm or config.accumulate != 1 or (kind == UNET and config.w_prompt):
        raise SurdError(
            f"{kind}: it distils no LLM, accumulates nothing and, on the UNet, aligns no prompt; set them so"
        )
    data, base = open_data(config, computed=[SIMPLE] if kind == TEXT else [])
    conditioner = Conditioner(config, data, base, torch.device(pick_device(config.device)), print)
    pipe = conditioner.pipe
    part = getattr(pipe, PARTS[kind])
    rank = lora_rank(kind, part, weights)
    torch.manual_seed(config.seed)
    trained = _add_lora(kind, part, rank)
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    objective, schedule = Objective(pipe, config), learning_rates(config)
    loader = data.loader(batch_size=config.batch_size, image_size=conditioner.image_size, seed=config.seed)
    precision = "bfloat16" if config.mixed_precision == "bf16" else "float32"
    log: list[float] = []
    for step, batch in zip(range(config.steps), loader, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule(step)
        optimizer.zero_grad()
        torch.manual_seed(draw_seed(config.seed, step, 0))
        with computing_in(precision, pipe.device):
            conditions = conditioner(batch)
            states = _encode(pipe, batch, conditions) if kind == TEXT else conditions.simple_BTD
            loss = objective(partial(_unadapted, states), conditions)["loss"]
        loss.backward()
        log.append(float(loss.detach()))
        if not math.isfinite(log[-1]):
            raise SurdError(f"{kind}: non-finite loss at step {step + 1}; lower lr")
        torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
    config.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            name: tensor.contiguous()
            for name, tensor in get_peft_model_state_dict(part, save_embedding_layers=False).items()
        },
        config.out / FILE,
    )
    tenth = max(1, len(log) // 10)
    return {
        "weights": sum(weight.numel() for weight in trained), "rank": rank, "steps": len(log),
        "loss_first": float(np.mean(log[:tenth])), "loss_last": float(np.mean(log[-tenth:])),
    }  # fmt: skip


def lora_pipeline(kind: str, base: str, folder: Path) -> Pipeline:
    """The base model with the LoRA in ``folder`` merged into its weights, so that it draws as fast as without."""
    pipe = load_base(base)
    part = getattr(pipe, PARTS[kind])
    tensors = load_file(folder / FILE)
    rank = next(len(tensor) for name, tensor in tensors.items() if "lora_A" in name)
    _add_lora(kind, part, rank)
    loaded: Any = set_peft_model_state_dict(part, tensors)
    if loaded.unexpected_keys:
        raise SurdError(
            f"{folder / FILE} does not fit {base!r} ({loaded.unexpected_keys[0]}); delete it and train again"
        )
    for layer in part.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()  # type: ignore[operator]  # a method of every tuner's layer, though not of their base class
    return pipe


def lora_rank(kind: str, part: nn.Module, weights: int) -> int:
    """The rank at which LoRA comes nearest to this many weights: at least 1, at most that of the matrices it is on."""
    layers = [
        layer
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear) and name.endswith(tuple(f".{target}" for target in TARGETS[kind]))
    ]
    full = min(min(layer.in_features, layer.out_features) for layer in layers)
    return min(full, max(1, round(weights / sum(layer.in_features + layer.out_features for layer in layers))))


def _add_lora(kind: str, part: Any, rank: int) -> list[nn.Parameter]:
    """Give a part of the base model LoRA that changes nothing yet; returns its weights, in float32."""
    part.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS[kind])))
    cast_training_params(part, dtype=torch.float32)
    return [weight for weight in part.parameters() if weight.requires_grad]


def _unadapted(states_BTD: Tensor, *_: Any) -> SURAdapterOutput:
    """Where the objective expects an adapter: the states as they are."""
    return SURAdapterOutput(states=states_BTD)


def _encode(pipe: Pipeline, batch: Batch, conditions: Conditions) -> Tensor:
    """Text states with their gradient, of the captions that were not dropped and otherwise of the empty prompt."""
    captions = batch.captions or batch.simple
    texts = [text if kept else "" for text, kept in zip(captions, conditions.kept_B.tolist(), strict=True)]
    states, _ = pipe.encode_prompt(texts, pipe.device, 1, do_classifier_free_guidance=False)
    return states.float()
