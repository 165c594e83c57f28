"""make bench-train: savings of columns in training, and overhead of the trainer over the bare computation.

Two models are trained for a few steps, in turn from columns and computing latents and text states on the fly: the
demo's, and one with the shape of Stable Diffusion 1.5 at a quarter of its widths, where the VAE costs as much relative
to the UNet as in the original. Both adapters are in scale: as wide and with as many heads relative to the text states
as the default one is for Stable Diffusion 1.5. After every step of the trainer a bare loop takes one of its own: the
same adapter, losses, batch, backward pass, clipping and AdamW, but batches ready in memory, and nothing else. Ratios
are of processor time, which does not depend on the load of the machine. Memory is the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from sur_adapter.base_model import load_base, pick_device, text_width
from sur_adapter.training.conditions import DTYPES, Conditioner
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.objective import make_objective
from sur_adapter.training.state import make_adapter
from sur_adapter.training.trainer import train
from tests.bench.embed import seconds
from tests.bench.figures import Figure
from tests.bench.train_data import DEMO, quarter_of_sd15, write_dataset

MB = 1 << 20
WARM_UP = 3
IN_SCALE = {"feed_forward": 512, "heads": 2}  # for text states 192 wide: the defaults are for 768
LONG_RUN, MOST_MINUTES = 2000, 15


def config(shards: str, out: Path, steps: int, **more: Any) -> TrainConfig:
    base = {"shards": shards, "out": out, "steps": WARM_UP + steps, "checkpoint_every": 0, "device": "cpu"}
    return TrainConfig.model_validate(base | IN_SCALE | more)


class BareLoop:
    """Training steps on batches in memory, with nothing around the computation."""

    def __init__(self, settings: TrainConfig) -> None:
        data, base = open_data(settings)
        self.device, self.dtype = torch.device(pick_device(settings.device)), DTYPES[settings.mixed_precision]
        self.conditioner = Conditioner(settings, data, base, self.device, print)
        self.adapter = make_adapter(settings, text_width(self.conditioner.pipe), data, base).to(self.device).train()
        self.objective = make_objective(self.conditioner.pipe, settings)
        self.optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=settings.lr)
        loader = data.loader(batch_size=settings.batch_size, image_size=self.conditioner.image_size, seed=settings.seed)
        self.batches = [batch.to(self.device) for batch in islice(loader, settings.steps)]
        self.taken = 0

    def step(self) -> float:
        """Seconds of one step: of the processor, on a GPU by the clock."""
        return seconds(self._step, self.device)

    def _step(self) -> None:
        torch.manual_seed(self.taken)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            batch = self.batches[self.taken % len(self.batches)]
            loss = self.objective(self.adapter, self.conditioner(batch))["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
        self.optimizer.step()
        self.taken += 1


@dataclass(frozen=True)
class Step:
    """Seconds of one step of the trainer (wall time, processor time), and of the bare loop's step right after it."""

    wall: float
    cpu: float
    bare: float


def seconds_a_step(settings: TrainConfig, bare: BareLoop | None = None) -> list[Step]:
    """Every step of a training except the first few."""
    times: list[Step] = []
    wall = cpu = 0.0

    def on_step(step: int, losses: dict[str, float]) -> None:
        nonlocal wall, cpu
        took = time.perf_counter() - wall, time.process_time() - cpu
        alone = bare.step() if bare else 0.0
        if step > WARM_UP:
            times.append(Step(*took, alone))
        wall, cpu = time.perf_counter(), time.process_time()

    train(settings, on_step, warn=lambda _: None)
    return times


def peak_memory(shards: str, columns: bool, batch: int) -> float:
    """Peak resident MB of the steps of a short training in a process of its own, loading left out."""
    flags = ["--measure-memory", shards, "--batch-size", str(batch), *([] if columns else ["--no-columns"])]
    command = [sys.executable, "-m", "tests.bench.train", *flags]
    # With a fixed threshold freed memory goes back to the system, so that the peak is of memory in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(process.stdout.split()[-1])


def forget_loading(step: int, losses: dict[str, float]) -> None:
    """Let the peak begin anew after the first step: from there on it is what training needs."""
    if step == 1:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(shards: str, work: Path, steps: int, rounds: int, batch: int) -> dict[str, float]:
    """Median processor seconds per step of every way to train, and peaks of memory."""
    ways: dict[str, dict[str, Any]] = {
        "columns": {},
        "on the fly": {"columns": False},
        "authors' objective, columns": {"objective": "authors", "accumulate": 1},
    }
    times: dict[str, list[Step]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, more in ways.items():
            settings = config(shards, work / f"{number} {name}", steps, batch_size=batch, **more)
            times[name] += seconds_a_step(settings)
    settings = config(shards, work / "beside", steps * rounds, batch_size=batch)
    beside = seconds_a_step(settings, BareLoop(settings))
    median = statistics.median
    medians = {name: median(step.cpu for step in each) for name, each in times.items()}
    medians["trainer beside the bare loop"] = median(step.cpu for step in beside)
    medians["bare loop"] = median(step.bare for step in beside)
    medians["columns, by the clock"] = median(step.wall for step in times["columns"])
    medians["MB, columns"], medians["MB, on the fly"] = (peak_memory(shards, on, batch) for on in (True, False))
    return medians


def encoders_mb(base: str) -> float:
    """MB of the frozen encoders, which columns replace, in float32."""
    pipe = load_base(base, unet=False)
    sizes = (weight.numel() * 4 for part in (pipe.vae, pipe.text_encoder) for weight in part.parameters())
    return sum(sizes) / MB


def figures_of(name: str, base: str, medians: dict[str, float]) -> list[Figure]:
    saved = medians["MB, on the fly"] - medians["MB, columns"]
    outside = 1 - medians["bare loop"] / medians["trainer beside the bare loop"]
    return [
        Figure(f"{name}_steps_per_second_columns_to_on_the_fly", medians["on the fly"] / medians["columns"], ">=", 1.4),
        Figure(f"{name}_memory_saved_mb", saved, ">=", round(encoders_mb(base), 1)),
        Figure(f"{name}_time_outside_the_mathematics", outside, "<", 0.05),
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.train", description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="measured steps per way and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=128, help="samples")
    parser.add_argument("--seed", type=int, default=6001, help="seed of the demo world")
    parser.add_argument("--measure-memory", metavar="SHARDS", help=argparse.SUPPRESS)
    parser.add_argument("--no-columns", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.measure_memory:
            columns = not args.no_columns
            settings = config(args.measure_memory, work, 3, batch_size=args.batch_size, columns=columns)
            train(settings, forget_loading, warn=lambda _: None)
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
            return
        models = {"demo": (DEMO, args.batch_size), "quarter_sd15": (quarter_of_sd15(work / "quarter"), 2)}
        figures, measured = [], {}
        for name, (base, batch) in models.items():
            shards = write_dataset(work / name, base, args.size, args.seed)
            fewer = 1 if base == DEMO else 4  # its steps are long and differ little
            rounds = max(1, args.rounds // fewer)
            measured[name] = medians = measure(
                shards, work / f"{name} runs", max(1, args.steps // fewer), rounds, batch
            )
            figures += figures_of(name, base, medians)
            console.print(table(f"{name}, batch {batch}, {torch.get_num_threads()} threads", medians))
        minutes = measured["demo"]["columns, by the clock"] * LONG_RUN / 60
        figures.append(Figure("demo_minutes_of_2000_steps", minutes, "<", MOST_MINUTES))
    for figure in figures:
        console.print(f"{'met ' if figure.met else 'MISS'} {figure.name} {figure.value:.3f}, goal {figure.goal}")
    print(json.dumps({figure.name: figure.document() for figure in figures} | {"measured": measured}))
    sys.exit(0 if all(figure.met for figure in figures) else 1)


def table(title: str, medians: dict[str, float]) -> Table:
    """The measurements as a table."""
    drawn = Table("", "median", title=title)
    for name, value in medians.items():
        drawn.add_row(name, f"{value:.0f}" if name.startswith("MB") else f"{value * 1000:.0f} ms per step")
    return drawn


if __name__ == "__main__":
    main()
