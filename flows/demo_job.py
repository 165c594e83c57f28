"""The rest of ``surd demo`` after the build: train the adapter, and measure what it changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.demo.eval_prompts import write as write_prompts
from surd.schemas import ShardManifest
from surd.schemas.paths import absolute

EACH = 6  # prompts of each category; the sheet shows the first of each
# The recipe of docs/effect.md: in two hundred steps at the default rate and strength no difference would be visible.
TRAINING = (
    "--lr", "2e-3", "--lr-schedule", "cosine", "--eta", "1", "--w-prompt", "5", "--feed-forward", "512",
    "--batch-size", "16",
)  # fmt: skip
DRAWING = ("--guidance-scale", "2.5", "--seeds", "1")  # the guidance that the demo's diffusion model was measured at


class TrainingFailed(Exception):
    """A program of sur_adapter failed and has printed why; ``args[0]`` is its exit code."""


def train_and_measure(summary: dict[str, Any], root: str, steps: int, overwrite: bool = False) -> dict[str, Any]:
    """Train on the build at ``root`` and measure the adapter on prompts it never saw.

    Returns the summary, also written to ``summary.json`` there. The adapter's programs run as a user runs them: the
    shards are their only input. An adapter that is there is replaced if the build has changed, or to ``overwrite``.
    Raises TrainingFailed.
    """
    replacing = ["--overwrite"] if overwrite or summary["run_units"] else []
    out = absolute(root)
    adapter = out / "adapter"
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
    grid, effect = _evaluated(out, adapter)
    trained = json.loads((adapter / "train.json").read_text(encoding="utf-8"))
    figures = {
        **{name: summary[name] for name in ("collected", "kept", "rejected", "shards")},
        "train": {name: trained[name] for name in ("steps", "loss_first", "loss_last")},
        "effect": effect,
        "report": summary["report"],
        "grid": str(grid),
    }
    Build(root).write_bytes("summary.json", (json.dumps(figures) + "\n").encode())
    return figures


def _shards(build: Build, out: Path) -> str:
    """The shards as one pattern; for a build that kept nothing, the name its first shard would have."""
    count = len(ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json")).shards)
    return f"{out}/shards/surd-{{00000..{max(count, 1) - 1:05d}}}.tar"


def _evaluated(out: Path, adapter: Path) -> tuple[Path, dict[str, float]]:
    """The sheet of the first prompt of each category, and what the judge found right in all of them, in percent."""
    prompts, folder = out / "prompts.jsonl", out / "evaluation"
    write_prompts(prompts, each=EACH)
    files = ("--prompts", str(prompts), "--adapter", str(adapter), "--out", str(folder))
    _run("sur_adapter.cli.evaluate", *files, *DRAWING, "--overwrite")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))["average"]
    shutil.copy(folder / "grid.png", out / "grid.png")
    difference = result["difference"]
    return out / "grid.png", {
        "base": round(100 * result["arms"]["base"]["mean"], 1),
        "adapter": round(100 * result["arms"]["adapter"]["mean"], 1),
        "half_interval": round(50 * (difference["high"] - difference["low"]), 1),
    }


def _run(module: str, *arguments: str) -> None:
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code:
        raise TrainingFailed(code)
