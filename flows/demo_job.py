"""The rest of ``surd demo`` after the build: train the adapter, generate a grid with and without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from surd.pipeline.build.folder import Build, part_file
from surd.schemas import Corrected, ShardManifest, Status
from surd.schemas.paths import absolute

GRID_PROMPTS = 6
# The recipe of docs/effect.md: in two hundred steps at the default rate and strength no difference would be visible.
TRAINING = (
    "--lr", "2e-3", "--lr-schedule", "cosine", "--eta", "1", "--w-prompt", "5", "--feed-forward", "512",
    "--batch-size", "16",
)  # fmt: skip
SAMPLING = ("--guidance-scale", "2.5", "--compare")  # the guidance that the demo's diffusion model was measured at


class TrainingFailed(Exception):
    """A program of sur_adapter failed and has printed why; ``args[0]`` is its exit code."""


def train_and_generate(summary: dict[str, Any], root: str, steps: int, overwrite: bool = False) -> dict[str, Any]:
    """Train on the build at ``root`` and generate a grid; returns the summary, also written to ``summary.json`` there.

    The adapter's programs run as a user runs them: the shards are their only input. An adapter that is there is
    replaced if the build has changed, or to ``overwrite``. Raises TrainingFailed.
    """
    replacing = ["--overwrite"] if overwrite or summary["run_units"] else []
    out = absolute(root)
    adapter, grid = out / "adapter", out / "grid.png"
    _run(
        "sur_adapter.cli.train",
        "--shards",
        _shards(Build(root), out),
        "--out",
        str(adapter),
        "--steps",
        str(steps),
        *TRAINING,
        *replacing,
    )
    prompts = [argument for prompt in _sample_prompts(Build(root)) for argument in ("--prompt", prompt)]
    _run("sur_adapter.cli.generate", "--adapter", str(adapter), *prompts, *SAMPLING, "--overwrite", "--out", str(grid))
    trained = json.loads((adapter / "train.json").read_text(encoding="utf-8"))
    figures = {
        **{name: summary[name] for name in ("collected", "kept", "rejected", "shards")},
        "train": {name: trained[name] for name in ("steps", "loss_first", "loss_last")},
        "report": summary["report"],
        "grid": str(grid),
    }
    Build(root).write_bytes("summary.json", (json.dumps(figures) + "\n").encode())
    return figures


def _shards(build: Build, out: Path) -> str:
    """The shards as one pattern; for a build that kept nothing, the name its first shard would have."""
    count = len(ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json")).shards)
    return f"{out}/shards/surd-{{00000..{max(count, 1) - 1:05d}}}.tar"


def _sample_prompts(build: Build) -> list[str]:
    """The first few distinct simple prompts that were kept."""
    prompts: dict[str, None] = {}
    for part in range(build.part_count()):
        kept = build.read_table(part_file("select", part), columns=["status"])["status"].to_pylist()
        rows = zip(build.read_rows("correct", part, Corrected), kept, strict=True)
        prompts |= {row.simple: None for row, status in rows if status == Status.KEPT and row.simple}
        if len(prompts) >= GRID_PROMPTS:
            break
    return list(prompts)[:GRID_PROMPTS]


def _run(module: str, *arguments: str) -> None:
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code:
        raise TrainingFailed(code)
