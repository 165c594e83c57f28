"""Checkpoints of a training, and export of model folders, never half-written."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from surd.pretrained.precision import computes_bfloat16

MODELS = Path(__file__).parents[1] / "models"


def save(
    path: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, **extra: torch.Tensor
) -> None:
    """Weights, optimiser moments and `extra` tensors after `step` steps, as one safetensors file."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value for name, value in state.items()}
    tensors |= {f"extra.{name}": value for name, value in extra.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, partial, {"step": str(step)})
    partial.replace(path)


def resume(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, torch.Tensor]]:
    """The step to continue from (0 without a checkpoint) and the extra tensors saved."""
    if not path.exists():
        return 0, {}
    step = _step(path)
    groups: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimizer": {}, "extra": {}}
    for name, value in load_file(path).items():
        group, rest = name.split(".", 1)
        groups[group][rest] = value
    model.load_state_dict(groups["model"])
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in groups["optimizer"].items():
        place, key = name.split(".")
        state["state"].setdefault(int(place), {})[key] = value
    optimizer.load_state_dict(state)
    return step, groups["extra"]


def progress(path: Path) -> tuple[int, float]:
    """Steps and minutes of the checkpoint at `path`; (0, 0.0) if there is none."""
    if not path.exists():
        return 0, 0.0
    with safe_open(path, "pt") as tensors:
        return _step(path), float(tensors.get_tensor("extra.seconds")) / 60


def _step(path: Path) -> int:
    with safe_open(path, "pt") as tensors:
        return int(tensors.metadata()["step"])


def load_weights(path: Path, model: torch.nn.Module) -> None:
    """Load the weights of the checkpoint at `path`, which must exist, into `model`."""
    saved = load_file(path)
    model.load_state_dict({n.removeprefix("model."): v for n, v in saved.items() if n.startswith("model.")})


def export(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a fresh folder, then replace `folder` by it with one rename."""
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for stale in (fresh, old):
        shutil.rmtree(stale, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    for file in fresh.rglob("*.*"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def fast_computing() -> Iterator[None]:
    """Autocast to bfloat16 on processors that compute in it; on others float32 is the faster of the two."""
    if not computes_bfloat16("cpu"):
        yield
        return
    # In bf16 on a CPU the plain attention's backward pass is far faster than the fused one's.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def trainings(folder: Path) -> list[dict[str, int]]:
    """The trainings of the model in `folder`, in order, from its ``trainings.json``: ``steps``, ``batch``, ``minutes``;
    empty if the file is missing."""
    path = folder / "trainings.json"
    return json.loads(path.read_text()) if path.exists() else []


def describe(runs: list[dict[str, int]]) -> str:
    """Trainings in words for a model card."""
    return ", then ".join(f"{run['steps']:,} steps of {run['batch']} in {run['minutes']} minutes" for run in runs)


def to_fp16(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with floating ones in fp16."""
    return {n: (v.half() if v.is_floating_point() else v).contiguous() for n, v in state.items()}


class TrainingClock:
    """Seconds of training so far, for the log and the model card; `spent` is that of the run that is resumed."""

    def __init__(self, spent: float = 0.0) -> None:
        self._start = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
