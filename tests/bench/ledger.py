"""Bookkeeping of large builds: ``python -m tests.bench.ledger``.

Writes finished builds of synthetic ledgers and tiny files, and measures what a run does before it knows that there is
nothing to do: the cost of a unit at 10,000 partitions beside 100, the time for 200,000 records, and the memory of the
driver at 10,000 partitions. Times are CPU time. The last line is one JSON document; exit code 1 when a goal is missed.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from surd.pipeline.build.folder import Build, part_file, part_miniatures, part_tar
from surd.pipeline.build.ledger import Ledger
from surd.pipeline.inspection.nothing_kept import check_kept
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.runner.plan import Planner, fold_ledgers
from surd.pipeline.runner.run_unit import run_unit, skipped
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, Marker, ShardInfo, ShardManifest
from tests.bench.figures import Figure

ROUNDS = 3
PARTITIONS_A_SHARD = 10
MAX_RATIO, MAX_SECONDS, MAX_MB = 1.5, 5.0, 500.0


def finished(root: str, partitions: int, records: int, *, rows: bool = False) -> BuildConfig:
    """A build in which everything is done. With ``rows``, those of select, caption and rewrite are there."""
    config, build = BuildConfig(source="demo"), Build(root)
    shards = [f"surd-{number:05d}.tar" for number in range(max(1, partitions // PARTITIONS_A_SHARD))]
    infos = [ShardInfo(name=name, count=1, bytes=0, sha256="0" * 64) for name in shards]
    build.write_json("shards/manifest.json", ShardManifest(count=len(infos), diffusion="none", shards=infos))
    planner = Planner(build, config)
    for stage in STAGES:
        count = partitions if stage.scope == "partition" else len(shards) if stage.scope == "shard" else 1
        outputs = [outputs_of(stage, unit, partitions, shards) for unit in range(count)]
        for file in (file for files in outputs for file in files):
            path = Path(root, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if rows:
            write_rows(build, stage, partitions, records // partitions)
        sizes = {
            f"{folder}/{name}".lstrip("/"): size
            for folder in folders(outputs)
            for name, size in build.sizes(folder).items()
        }
        markers: dict[int, Marker | None] = {}
        for task in planner.plan(stage).tasks:
            files = outputs[task.unit]
            markers[task.unit] = Marker(
                stage=stage.name,
                part=task.unit,
                parts=partitions if stage.scope == "source" else task.parts,
                fingerprint=task.fingerprint,
                outputs={file: hashlib.sha256(file.encode()).hexdigest() for file in files},
                sizes={file: sizes[file] for file in files},
                rows=records if stage.scope == "source" else records // max(1, count),
                seconds=1.0,
            )
        empty = Ledger(build, stage.name, build.ledger(stage.name).table().slice(0, 0), markers)
        build.write_table(f"{stage.name}/ledger.parquet", empty.table())
        planner.ran(stage)
    return config


def outputs_of(stage: Stage, unit: int, partitions: int, shards: list[str]) -> list[str]:
    """The files that a unit of a stage writes."""
    if stage.name == "pack":
        return ["shards/manifest.json", *(f"shards/{name}" for name in shards)]
    if stage.name == "embed":
        return [f"columns/llm/{shards[unit]}", f"columns/latents/{shards[unit]}"]
    if stage.name == "report":
        return ["report.html"]
    parts = [unit] if stage.scope == "partition" else range(partitions)
    own = {"fetch": part_tar("fetch", unit), "decode": part_miniatures(unit)}
    return [*(part_file(stage.name, part) for part in parts), *([own[stage.name]] if stage.name in own else [])]


def folders(outputs: list[list[str]]) -> set[str]:
    """The folders of files."""
    return {file.rpartition("/")[0] for files in outputs for file in files}


def write_rows(build: Build, stage: Stage, partitions: int, each: int) -> None:
    """Rows of which a finished run reads a few columns for its summary: all kept, with texts as long as real ones."""
    import pyarrow as pa

    text = "a red fox jumps over a wooden fence in a snowy garden at dawn"
    columns = {"select": {"reason": None, "detail": None}, "caption": {"captions": [text] * 3, "caption_dropped": None},
               "rewrite": {"rewrites": [text], "rewrite_dropped": None}}.get(stage.name)  # fmt: skip
    if columns is None or stage.row is None:
        return
    values = {"key": [f"{key:016x}" for key in range(each)], "status": ["kept"] * each}
    table = pa.table(values | {name: [value] * each for name, value in columns.items()})
    table = pa.table({name: column.cast(pa.string()) if column.type == pa.null() else column
                      for name, column in zip(table.column_names, table.columns, strict=True)})  # fmt: skip
    for part in range(partitions):
        build.write_bytes(part_file(stage.name, part), _parquet(table), durable=False)


def _parquet(table: object) -> bytes:
    from surd.pipeline.build.folder import parquet_bytes

    return parquet_bytes(table)  # type: ignore[arg-type]


def plan_all(root: str, config: BuildConfig) -> int:
    """What the driver does to find that nothing is to be run; the number of units that it has looked at."""
    build = Build(root)
    fold_ledgers(build)
    planner, looked_at = Planner(build, config), 0
    for stage in STAGES:
        plan = planner.plan(stage)
        assert not plan.tasks, f"{stage.name} is not done"
        looked_at += len(plan.done)
    return looked_at


def found_done(root: str, config: BuildConfig) -> None:
    """All that a run does over a finished build, beside the start of Prefect."""
    build = Build(root)
    fold_ledgers(build)
    planner = Planner(build, config)
    outcomes = []
    for stage in STAGES:
        outcomes += [skipped(stage, unit, rows) for unit, rows in planner.plan(stage).done.items()]
        assert unusable_note(build, stage.name) is None
    check_kept(build, config)
    assert summarize(build, outcomes)["run_units"] == 0


def best(measured: Callable[[], object]) -> float:
    """CPU seconds of the fastest of some rounds: on a busy machine, the clock on the wall measures its neighbours."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        measured()
        seconds.append(time.process_time() - started)
    return min(seconds)


def run_cost(root: str, config: BuildConfig, partitions: int) -> float:
    """Seconds of bookkeeping of a unit that runs, with its task: here one that has ended in this run already."""
    build, stage = Build(root), next(stage for stage in STAGES if stage.name == "score")
    planner, unit = Planner(build, config), partitions // 2
    marker = build.ledger(stage.name).marker(unit)
    assert marker is not None
    build.write_marker(marker)
    task = planner.task(stage, unit)
    cost = best(lambda: [run_unit(stage, unit, root, config, task) for _ in range(50)]) / 50
    build.fold_ledger(stage.name)
    return cost


def driver_memory(root: str) -> float:
    """MB of a process of its own that plans a build of ``root``."""
    command = [sys.executable, "-m", "tests.bench.ledger", "--plan", root]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main(
    partitions: Annotated[int, typer.Option(help="Of the large build.")] = 10_000,
    beside: Annotated[int, typer.Option(help="Partitions of the small build beside it.")] = 100,
    records: Annotated[int, typer.Option(help="Of the build that is found done.")] = 200_000,
    plan: Annotated[str | None, typer.Option(help="Plan this build and print the peak memory; internal.")] = None,
) -> None:
    """Measure the bookkeeping of large builds."""
    if plan:
        plan_all(plan, BuildConfig(source="demo"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        skip, run = {}, {}
        for size in (beside, partitions):
            root = f"{folder}/{size}"
            config = finished(root, size, size * 1000)
            skip[size] = best(lambda root=root, config=config: plan_all(root, config)) / plan_all(root, config)
            run[size] = run_cost(root, config, size)
        memory = driver_memory(f"{folder}/{partitions}")
        config = finished(f"{folder}/done", max(1, records // 1000), records, rows=True)
        seconds = best(lambda: found_done(f"{folder}/done", config))
    figures = [
        Figure("skip_cost_ratio", skip[partitions] / skip[beside], "<=", MAX_RATIO),
        Figure("run_bookkeeping_ratio", run[partitions] / run[beside], "<=", MAX_RATIO),
        Figure("finished_build_found_done_cpu_seconds", seconds, "<", MAX_SECONDS),
        Figure("driver_mb", memory, "<", MAX_MB),
    ]
    table = Table("what", "value", "goal", "met", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.3g}", figure.goal, "yes" if figure.met else "no")
    console.print(table)
    for size in (beside, partitions):
        console.print(
            f"{size:,} partitions: a skip {skip[size] * 1e6:.0f} us, a run's bookkeeping {run[size] * 1e3:.2f} ms"
        )
    met = all(figure.met for figure in figures)
    print(json.dumps({"met": met, "figures": {figure.name: figure.document() for figure in figures}}))
    raise SystemExit(not met)


if __name__ == "__main__":
    typer.run(main)
