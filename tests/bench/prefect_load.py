"""What a build costs its Prefect server and its driver: bytes of database per partition and stage, and memory.

A real server, the real ``run_stages`` and the real page of the run; only the units themselves do nothing. Beside it a
bare flow with one task run a unit. Ends with one line of JSON, and exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure
from tests.e2e.conftest import BIN
from tests.e2e.prefect_server import PrefectServer, prefect_server

BARE = 100  # units of the bare flow


def _database(server: PrefectServer) -> int:
    """Bytes in use. The server writes events a moment after it got them, so it must have come to rest."""
    size, before = 0, -1
    while size != before:
        time.sleep(5)
        before = size
        with sqlite3.connect(server.logs / "prefect.db") as database:
            pages, free, each = (
                database.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        size = (pages - free) * each
    return size


def _driver(server: PrefectServer, kind: str, units: int) -> int:
    """Run a flow in a process of its own and return its peak memory in bytes."""
    command = [sys.executable, "-m", "tests.bench.prefect_load", "--driver", kind, "--units", str(units)]
    ran = subprocess.run(
        command, env=server.env | {"PREFECT_LOGGING_LEVEL": "ERROR"}, check=True, stdout=subprocess.PIPE
    )
    return int(ran.stdout.split()[-1])


def _run_driver(kind: str, units: int) -> None:
    from prefect import flow, task

    from surd.flows import run_stages as module
    from surd.flows.artifacts import RunPage
    from surd.pipeline.build.folder import Build
    from surd.pipeline.runner.plan import Planner, StagePlan, UnitTask
    from surd.pipeline.runner.run_unit import Outcome
    from surd.pipeline.stages import BY_NAME
    from surd.schemas import BuildConfig

    def nothing(stage: str, devices: None, unit: int, root: str, config: BuildConfig, task: UnitTask) -> Outcome:
        return Outcome(stage=stage, unit=unit, skipped=False, rows=1000, seconds=0.0)

    module._run_unit = nothing
    tasks = [UnitTask(unit=unit, parts=units, fingerprint="", marked=False) for unit in range(units)]

    @flow(name="windows", persist_result=False)
    def windows() -> None:
        config = BuildConfig()
        with tempfile.TemporaryDirectory() as root, module.unit_runner(config) as runner:
            planner = Planner(Build(root), config)
            planner.plan = lambda *_: StagePlan(done={}, tasks=tasks)  # type: ignore[method-assign]
            done = module.run_stages([BY_NAME["clean"]], planner, runner, [RunPage()])
        assert len(done) == units

    @task
    def unit(number: int) -> None: ...

    @flow(name="bare", persist_result=False)
    def bare() -> None:
        unit.map(range(units)).result()

    {"windows": windows, "bare": bare}[kind]()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(int(peak[1]) * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.prefect_load", description=__doc__)
    parser.add_argument("--units", type=int, default=1000, help="partitions of the stage (1000)")
    parser.add_argument("--many", type=int, default=10_000, help="partitions at which memory is measured (10000)")
    parser.add_argument("--driver", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.driver:
        _run_driver(options.driver, options.units)
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder), environment) as server:
        _driver(server, "windows", 1)  # what every flow costs, whatever its size
        sizes = [_database(server)]
        _driver(server, "windows", options.units)
        sizes.append(_database(server))
        _driver(server, "bare", BARE)
        sizes.append(_database(server))
        started = time.perf_counter()
        peak = _driver(server, "windows", options.many)
        seconds = time.perf_counter() - started
    figures = [
        Figure("database_bytes_per_partition_and_stage", (sizes[1] - sizes[0]) / options.units, "<=", 1024),
        Figure("driver_mb_at_many_partitions", peak / 1e6, "<", 500),
    ]
    bare = (sizes[2] - sizes[1]) / BARE
    print(f"database: {figures[0].value:,.0f} bytes per partition and stage; with a task run for each, {bare:,.0f}")
    print(f"driver at {options.many:,} partitions: {figures[1].value:,.0f} MB, {seconds:.0f} s for one stage")
    print(json.dumps({"met": all(f.met for f in figures), "figures": {f.name: f.document() for f in figures}}))
    sys.exit(0 if all(figure.met for figure in figures) else 1)


if __name__ == "__main__":
    main()
