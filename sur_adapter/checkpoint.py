"""Turns a running training into folders it can continue from, and such folders back into a running training.

Randomness and data order depend on (seed, step) alone, so weights, optimiser state and the log are all there is to
keep. Nothing is pickled. A folder is written beside its name and renamed, so whatever bears the name is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from schemas.errors import SurdError

KEEP = 2
Log = list[dict[str, float]]


class Checkpoints:
    """The ``step-NNNNNN`` folders under ``folder``. ``identity`` (plain JSON) is what makes a run the same run."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = identity

    def save(self, step: int, adapter: nn.Module, optimizer: torch.optim.Optimizer, log: Log) -> None:
        """Write ``step-{step}``, then drop all but the newest two."""
        target = self.folder / f"step-{step:06d}"
        partial = self.folder / f".{target.name}.tmp"
        for leftover in (partial, target):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(adapter.state_dict(), partial / "adapter.safetensors")
        save_file(_flatten(optimizer.state_dict()["state"]), partial / "optimizer.safetensors")
        write_json(partial / "state.json", {"step": step, "identity": self.identity, "log": log})
        for file in partial.iterdir():
            _fsync(file)
        partial.rename(target)
        _fsync(self.folder)
        for old in self._steps()[:-KEEP]:
            shutil.rmtree(old)

    def load(self, adapter: nn.Module, optimizer: torch.optim.Optimizer, last: int) -> tuple[int, Log]:
        """Load the newest checkpoint not beyond step ``last``; returns its step and log, (0, []) where there is none.

        Raises SurdError when it is of another run: other data, other base model or other settings.
        """
        found = [folder for folder in self._steps() if int(folder.name.removeprefix("step-")) <= last]
        if not found:
            return 0, []
        state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        theirs = state["identity"]
        changed = sorted(name for name in self.identity | theirs if self.identity.get(name) != theirs.get(name))
        if changed:
            other = ", ".join(changed)
            raise SurdError(f"--out: {found[-1]} is of a run with another {other}; name another --out or --no-resume")
        adapter.load_state_dict(load_file(found[-1] / "adapter.safetensors"))
        groups = optimizer.state_dict()["param_groups"]
        slots = _unflatten(load_file(found[-1] / "optimizer.safetensors"))
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
        return state["step"], state["log"]

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def write_json(path: Path, value: Any) -> None:
    """Write beside ``path`` and rename, so that a reader never sees half a file."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _flatten(state: dict[int, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{index}.{name}": tensor.contiguous() for index, slots in state.items() for name, tensor in slots.items()}


def _unflatten(tensors: dict[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    return state


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
