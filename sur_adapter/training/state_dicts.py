"""State dicts of model and optimiser as whole tensors by plain name, whatever wraps them.

Under DDP, FSDP or torch.compile the names and shapes are those of the bare model. Every process must call these
together; reading gives the tensors to the main process and nothing to the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

Tensors = dict[str, Tensor]
WHOLE = StateDictOptions(full_state_dict=True)
ON_MAIN = StateDictOptions(full_state_dict=True, cpu_offload=True)


def read_weights(model: nn.Module) -> Tensors:
    """Parameters and buffers; copies, because on the CPU they would otherwise share memory with the model."""
    state: dict[str, Any] = get_model_state_dict(model, options=ON_MAIN)
    return {name: tensor.clone() for name, tensor in state.items()}


def write_weights(model: nn.Module, tensors: Tensors) -> None:
    """Load what ``read_weights`` gave."""
    state: dict[str, Any] = dict(tensors)
    set_model_state_dict(model, state, options=WHOLE)


def read_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimiser's state, as "weight/slot"; learning rate and betas come from the config."""
    state: dict[str, Any] = get_optimizer_state_dict(model, _unwrap(optimizer), options=ON_MAIN)
    slots: dict[str, Tensors] = state.get("state", {})
    return {f"{name}/{slot}": tensor for name, by_slot in slots.items() for slot, tensor in by_slot.items()}


def write_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Load what ``read_optimizer`` gave."""
    slots: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        weight, _, slot = name.rpartition("/")
        slots.setdefault(weight, {})[slot] = tensor
    groups = get_optimizer_state_dict(model, _unwrap(optimizer), options=WHOLE)["param_groups"]
    state: Any = {"state": slots, "param_groups": groups}
    set_optimizer_state_dict(model, _unwrap(optimizer), state, options=WHOLE)


def _unwrap(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser without accelerate's wrapper, which torch does not accept."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
