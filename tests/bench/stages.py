"""make bench-stages: time of each model stage compared with its model alone, and growth of memory with the build.

Every model stage runs as in a build: inputs read from disk, pictures decoded, texts sorted and tokenised, rows written.
The calls of its networks are recorded, and made again in a bare loop right after it in the same process. So both have
the same batches and the same load of the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import marker_folder
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, load_config

MEASURED = ("score", "caption", "rewrite", "correct", "embed")
MOST_RATIO, MOST_GROWTH = 1.25, 1.5
PARTS = 4
MEMORY_STAGES = {"clean": (1_000, 20_000), "dedup": (1_000, 20_000), "select": (1_000, 20_000), "score": (500, 1_500)}


@dataclass(frozen=True)
class Seconds:
    """Wall time and processor time of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> Seconds:
        now = Seconds.now()
        return Seconds(now.wall - self.wall, now.cpu - self.cpu)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Medians over the rounds: seconds of a stage and of its networks alone, their ratio, and that of processor time.

    On a busy machine the ratio of processor time is what the ratio would be on an idle one.
    """

    stage: float
    bare: float
    ratio: float
    cpu_ratio: float

    @classmethod
    def of(cls, rounds: list[tuple[Seconds, Seconds]]) -> Timed:
        median = statistics.median
        return cls(
            stage=median(whole.wall for whole, _ in rounds),
            bare=median(bare.wall for _, bare in rounds),
            ratio=median(whole.wall / bare.wall for whole, bare in rounds),
            cpu_ratio=median(whole.cpu / bare.cpu for whole, bare in rounds),
        )


def networks(models: Models) -> list[tuple[Any, str]]:
    """The methods that only run a network on ready tensors."""
    clip, captioner, llm = models.clip, models.captioner, models.embed_llm
    text = "_encode_short" if clip._is_causal else "encode_text"
    return [
        (clip._model, "encode_image"),
        (clip if clip._is_causal else clip._model, text),
        (captioner, "_generate"),
        (llm, "_generate"),
        (llm.hidden_states, "_forward"),
    ]


@contextmanager
def recorded(models: Models) -> Iterator[list[Callable[[], Any]]]:
    """The calls of the networks while the block runs, each ready to be made again."""
    calls: list[Callable[[], Any]] = []

    def recording(call: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            calls.append(lambda: call(*args, **kwargs))
            return call(*args, **kwargs)

        return record

    places = networks(models)
    for owner, name in places:
        setattr(owner, name, recording(getattr(owner, name)))
    try:
        yield calls
    finally:
        for owner, name in places:
            delattr(owner, name)  # the class's own method is back


def one_round(stage: Stage, unit: int, root: str, config: BuildConfig) -> tuple[Seconds, Seconds]:
    """Time of one unit of a stage, run anew, and of its networks' calls alone."""
    build = Build(root)
    build.remove_marker(stage.name, unit)
    if stage.name == "embed":  # it would keep existing columns
        for column in build.listdir("columns"):
            build.remove_marker(marker_folder(column), unit)
    with recorded(Models(config.models)) as calls:
        started = Seconds.now()
        run_unit(stage, unit, root, config)
        whole = started.elapsed()
    with torch.inference_mode():
        started = Seconds.now()
        for call in calls:
            call()
        return whole, started.elapsed()


def throughput(size: int, seed: int) -> Iterator[tuple[str, Timed]]:
    """Build a demo of ``size`` records, and time its model stages on the way, a partition or shard a round."""
    part = max(8, -(-size // PARTS))
    config = load_config(
        {}, {"demo.count": size, "seed": seed, "partition_size": part, "pack.max_count": part, "select": {}}
    )
    models = Models(config.models)
    with tempfile.TemporaryDirectory() as folder:
        networks(models)  # loads the models, once per process
        for stage in STAGES:
            numbers = range(units(stage, Build(folder)))
            if stage.name in MEASURED:
                one_round(stage, 0, folder, config)  # first calls are slower
                rounds = [one_round(stage, unit, folder, config) for unit in numbers]
                yield stage.name, Timed.of([(whole, bare) for whole, bare in rounds if bare.wall and bare.cpu])
            elif stage.name != "report":
                for unit in numbers:
                    run_unit(stage, unit, folder, config)
            finish(stage, folder, config)
            if stage.name == MEASURED[-1]:
                break


def growth() -> dict[str, tuple[int, int]]:
    """Peak resident MB of each stage at few and at many records, each in a process of its own."""
    peaks = {}
    for stage, sizes in MEMORY_STAGES.items():
        command = [sys.executable, "-m", "tests.bench.memory", stage]
        ran = [subprocess.run([*command, str(size)], check=True, capture_output=True, text=True) for size in sizes]
        few, many = (int(one.stdout.splitlines()[-1]) for one in ran)
        peaks[stage] = (few, many)
    return peaks


def main() -> int:
    """Print both tables and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=8001)
    parser.add_argument("--only", choices=("throughput", "memory"))
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    set_up_process()
    transformers.utils.logging.disable_progress_bar()
    figures: dict[str, dict[str, float]] = {}
    if args.only != "memory":
        print(f"{args.size} records in {PARTS} parts, medians of these\n")
        print(f"{'stage':10} {'seconds':>9} {'bare':>9} {'ratio':>7} {'of cpu':>7}", flush=True)
        for name, one in throughput(args.size, args.seed):
            print(f"{name:10} {one.stage:9.2f} {one.bare:9.2f} {one.ratio:7.2f} {one.cpu_ratio:7.2f}", flush=True)
            figures[f"{name}_ratio"] = {"value": round(one.ratio, 3), "at_most": MOST_RATIO}
    if args.only != "throughput":
        print(f"\n{'stage':10} {'MB':>9} {'MB':>9} {'ratio':>7}   (peak resident memory)")
        for name, (few, many) in growth().items():
            few_records, many_records = MEMORY_STAGES[name]
            print(f"{name:10} {few:9} {many:9} {many / few:7.2f}   {few_records:,} -> {many_records:,} records")
            figures[f"{name}_memory"] = {"value": round(many / few, 3), "at_most": MOST_GROWTH}
    missed = [name for name, figure in figures.items() if figure["value"] > figure["at_most"]]
    print(json.dumps({"figures": figures, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main())
