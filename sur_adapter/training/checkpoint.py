"""Turns a running training into folders it can continue from, and such folders back into a running training.

Randomness, learning rate and data order depend on (seed, step) alone, so weights, their running average, optimiser
state and the log are all there is to keep. Nothing is pickled. A folder is written beside its name and renamed, and
states the hash of its files: one that a crash or a full disk cut short is told apart and passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sur_adapter.files import write_json
from sur_adapter.training.state_dicts import Tensors
from surd.schemas.errors import SurdError

Log = list[dict[str, float]]
PREFIX = "step-"
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)  # of half a folder


@dataclass(kw_only=True)
class State:
    """All there is to keep: tensors by name in groups (adapter, optimizer, ema), and what else the run knows."""

    step: int
    tensors: dict[str, Tensors]
    facts: dict[str, Any] = field(default_factory=dict)
    log: Log = field(default_factory=list)


class Checkpoints:
    """The ``step-NNNNNN`` folders under ``folder``. ``identity`` (plain JSON) is what makes a run the same run."""

    def __init__(self, folder: Path, identity: dict[str, Any], keep: int = 2) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep

    def save(self, state: State) -> None:
        """Write ``step-{state.step}``, then drop all but the newest ``keep`` up to it.

        What lies beyond it is damaged or of a longer run, and no reason to drop what was just written. Raises SurdError
        where it cannot be written; those that are there stay.
        """
        try:
            self._write(state, self.folder / f"{PREFIX}{state.step:06d}")
        except (OSError, SafetensorError) as error:
            raise SurdError(
                f"--out: {self.folder} takes no checkpoint of step {state.step} ({_one_line(error)}); {self.newest()}; "
                "make room or the folder writable, and the same command continues"
            ) from error
        upto = [folder for folder in self.steps() if _step(folder) <= state.step]
        for old in upto[: -self.keep]:
            shutil.rmtree(old)

    def _write(self, state: State, target: Path) -> None:
        partial = self.folder / f".{target.name}.tmp"
        for leftover in (partial, target):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in state.tensors.items():
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial / f"{name}.safetensors")
        hashes = {file.name: _sha256(file) for file in partial.iterdir()}
        facts = {"step": state.step, "files": hashes, "identity": self.identity, "facts": state.facts}
        write_json(partial / "state.json", facts | {"log": state.log})
        for file in partial.iterdir():
            _fsync(file)
        partial.rename(target)
        _fsync(self.folder)

    def load(self, last: int, warn: Callable[[str], None]) -> State | None:
        """The newest whole checkpoint not beyond step ``last``; None where there is none.

        ``warn`` hears of each that is damaged. Raises SurdError when it is of another run: other data, other base
        model or other settings.
        """
        for folder in reversed(self.steps()):
            if _step(folder) > last:
                continue
            try:
                state, identity = _read(folder)
            except DAMAGE as error:
                warn(f"{folder} is damaged ({_one_line(error)}); falling back to the one before")
                continue
            self._compare(folder, identity)
            return state
        return None

    def newest(self) -> str:
        """The newest whole checkpoint, in words."""
        for folder in reversed(self.steps()):
            with contextlib.suppress(*DAMAGE):
                _read(folder)
                return f"the last good checkpoint is {folder}"
        return "there is no checkpoint yet"

    def steps(self) -> list[Path]:
        """The checkpoint folders, oldest first."""
        return sorted(path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit())

    def _compare(self, folder: Path, theirs: dict[str, Any]) -> None:
        changed = sorted(name for name in self.identity | theirs if self.identity.get(name) != theirs.get(name))
        if not changed:
            return
        if "LLM" in changed:
            raise SurdError(
                f"--llm-column: {folder} distilled {theirs.get('LLM')} but the column is of {self.identity.get('LLM')};"
                " name a column of that LLM, or another --out"
            )
        other = ", ".join(changed)
        raise SurdError(f"--out: {folder} is of a run with another {other}; name another --out or --no-resume")


def _read(folder: Path) -> tuple[State, dict[str, Any]]:
    """A checkpoint's state and identity; whatever is wrong with it raises."""
    facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for name, digest in facts["files"].items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    tensors = {Path(name).stem: load_file(folder / name) for name in facts["files"]}
    return State(step=facts["step"], tensors=tensors, facts=facts["facts"], log=facts["log"]), facts["identity"]


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
