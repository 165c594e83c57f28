"""Checkpoints of a training: crash-safe folders of safetensors and JSON.

Randomness, learning rate and data order depend on (seed, step) alone, so weights, their running average, optimiser
state and the log are all there is to keep. Nothing is pickled. A folder is written beside its name and renamed, and
states the hash of its files: one that a crash or a full disk cut short is detected and skipped.
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
from surd.schemas.errors import SurdError, one_line

Log = list[dict[str, float]]
PREFIX = "step-"
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)  # raised by a partial folder


@dataclass(kw_only=True)
class Checkpoint:
    """Everything a run resumes from: tensors by name in groups (adapter, optimizer, ema), metadata and the log."""

    step: int
    tensors: dict[str, Tensors]
    metadata: dict[str, Any] = field(default_factory=dict)
    log: Log = field(default_factory=list)


class Checkpoints:
    """The ``step-NNNNNN`` folders under ``folder``. ``fingerprint`` (plain JSON) is what two runs must
    share for one to continue the other; it is stored as "identity"."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any], keep: int = 2) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write ``step-{checkpoint.step}``, then delete all but the newest ``keep`` up to it.

        Later ones are damaged or of a longer run, and no reason to delete what was just written. Raises SurdError if
        it cannot be written; the existing ones stay.
        """
        try:
            self._write(checkpoint, self.folder / f"{PREFIX}{checkpoint.step:06d}")
        except (OSError, SafetensorError) as error:
            raise SurdError(
                f"--out: {self.folder}: the checkpoint of step {checkpoint.step} cannot be written "
                f"({one_line(error)}); {self.newest()}; free some space or make the folder writable; "
                "the same command continues"
            ) from error
        upto = [folder for folder in self.steps() if _step(folder) <= checkpoint.step]
        for old in upto[: -self.keep]:
            shutil.rmtree(old)

    def _write(self, checkpoint: Checkpoint, target: Path) -> None:
        partial = self.folder / f".{target.name}.tmp"
        for leftover in (partial, target):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in checkpoint.tensors.items():
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial / f"{name}.safetensors")
        hashes = {file.name: _sha256(file) for file in partial.iterdir()}
        write_json(
            partial / "state.json",
            {
                "step": checkpoint.step,
                "files": hashes,
                "identity": self.fingerprint,
                "facts": checkpoint.metadata,
                "log": checkpoint.log,
            },
        )
        for file in partial.iterdir():
            _fsync(file)
        partial.rename(target)
        _fsync(self.folder)

    def load(self, last: int, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest valid checkpoint up to step ``last``; None if there is none.

        ``warn`` is called for each damaged one. Raises SurdError if the checkpoint is of another run: other data,
        other base model or other settings.
        """
        for folder in reversed(self.steps()):
            if _step(folder) > last:
                continue
            try:
                checkpoint, fingerprint = _read(folder)
            except DAMAGE as error:
                warn(f"{folder} is damaged ({one_line(error)}); falling back to the one before")
                continue
            self._compare(folder, fingerprint)
            return checkpoint
        return None

    def newest(self) -> str:
        """The newest valid checkpoint, as part of an error message."""
        for folder in reversed(self.steps()):
            with contextlib.suppress(*DAMAGE):
                _read(folder)
                return f"the last good checkpoint is {folder}"
        return "there is no checkpoint yet"

    def steps(self) -> list[Path]:
        """The checkpoint folders, oldest first."""
        return sorted(path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit())

    def _compare(self, folder: Path, stored: dict[str, Any]) -> None:
        changed = sorted(name for name in self.fingerprint | stored if self.fingerprint.get(name) != stored.get(name))
        if stored.get("llm_column") is None and stored.get("LLM") and "LLM" not in changed:
            changed = [name for name in changed if name != "llm_column"]  # it took the only column without its name
        if not changed:
            return
        if "LLM" in changed:
            column = self.fingerprint.get("LLM")
            raise SurdError(
                f"--llm-column: {folder} distilled {stored.get('LLM')} but the column is of {column};"
                " name a column of that LLM, or another --out"
            )
        other = ", ".join(changed)
        raise SurdError(
            f"--out: {folder} is of a run with another {other}; name another --out, or replace it with --overwrite"
        )


def _read(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint and the fingerprint of its run; raises one of DAMAGE if anything is wrong with it."""
    stored = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for name, digest in stored["files"].items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    tensors = {Path(name).stem: load_file(folder / name) for name in stored["files"]}
    checkpoint = Checkpoint(step=stored["step"], tensors=tensors, metadata=stored["facts"], log=stored["log"])
    return checkpoint, stored["identity"]


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
