"""Builds killed at random moments and run again: are the bytes those of a build that nobody disturbed?

``python -m tests.bench.kills``: in each mode (one thread, two threads, processes that fetch, Ray) so many times the
build's process, or one of its workers, is ended by ``kill -9`` at a random moment; the next run goes on to the end.
Shards and columns must be byte-equal to the undisturbed build's, and what a finished unit wrote must not be written
again. Ends with one line of JSON, and exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import load_config
from tests.e2e.conftest import BIN
from tests.e2e.prefect_server import prefect_server
from tests.flows.tiny_llm import save_tiny_llm
from tests.pipeline.conftest import run_all

#: Parameters of each; ``units`` runs the stages up to dedup one after the other without the flow: it needs no server.
MODES: dict[str, dict[str, Any]] = {
    "units": {},
    "threads": {},
    "workers": {"workers": 2},
    "processes": {"fetch": {"processes": 2}},
    "ray": {"runner": "ray"},
}
_UNITS_END = "dedup"
_PRODUCTS = {True: ("shards", "columns"), False: ("fetch", "decode", "clean", "dedup")}  # by whether all stages run
_OF_A_RUN = re.compile(r"\.journal|ledger")  # what says when something was done
_PRELOAD = ["surd.flows.build", "surd.pipeline.stages.score", "surd.pipeline.stages.caption", "transformers", "ray"]


@dataclass
class Outcome:
    """Of one mode. ``killed``: kills amid a build, by what was killed.

    ``finished``: units that were done at the kills; ``redone``: those of them that were done again. ``failed``: second
    runs that did not end well.
    """

    killed: Counter[str] = field(default_factory=Counter)
    different: int = 0
    finished: int = 0
    redone: int = 0
    failed: int = 0

    @property
    def sound(self) -> bool:
        return not (self.different or self.redone or self.failed)

    def document(self) -> dict[str, object]:
        return {**vars(self), "killed": dict(self.killed)}


class Killing:
    """Builds of a demo world of twelve pictures in three partitions, each in a process of its own.

    Needs a Prefect server in the environment, but for the mode ``units``. The processes are forked from one that has
    imported everything, since that takes longer than the build.
    """

    def __init__(self, folder: Path, seed: int, preload: Sequence[str] = _PRELOAD) -> None:
        self._folder, self._chance = folder, random.Random(seed)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(preload))
        self._wanted: dict[bool, dict[str, bytes]] = {}
        self.seconds: dict[str, float] = {}
        warm = self._processes.Process(target=int)
        warm.start()
        warm.join()

    def kill(self, mode: str, kills: int, more: Callable[[], bool] = lambda: True) -> Outcome:
        """So many builds, each killed once; fewer where ``more`` says that there is no more time."""
        whole = mode != "units"
        if whole not in self._wanted:
            self._wanted[whole] = self._undisturbed("threads" if whole else "units")
        if mode not in self.seconds:
            assert self._undisturbed(mode) == self._wanted[whole], f"{mode}: an undisturbed build differs"
        outcome = Outcome()
        while outcome.killed.total() < kills and more():
            self._one(mode, worker=outcome.killed.total() % 2 == 1, outcome=outcome)
        return outcome

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        return {
            "demo": {"count": 12},
            "partition_size": 4,
            "models": {"llm": str(save_tiny_llm(self._folder / "llm")), "device": "cpu", "dtype": "float32"},
            "embed": {"layers": [1]},
            "rewrite": {"enabled": False},
            "caption": {"k": 1},
            "correct": {"tolerance": 1.0},
        }

    def _one(self, mode: str, *, worker: bool, outcome: Outcome) -> None:
        out = self._folder / "killed"
        process = self._start(mode, out)
        victim = self._wait(mode, process.pid, self._chance.random(), worker)
        if not process.is_alive():  # the machine was less busy than when the time of a run was measured: draw again
            shutil.rmtree(out)
            return
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        outcome.killed["driver" if victim == process.pid else "worker"] += 1
        if victim == process.pid:
            process.join()
            done = _finished(out)
        else:
            done = _finished(out)
            process.join()
        outcome.finished += len(done)
        if process.exitcode != 0:
            again = self._start(mode, out)
            again.join()
            outcome.failed += again.exitcode != 0
        outcome.redone += sum(_written(out, files) != before for files, before in done.items())
        whole = mode != "units"
        outcome.different += _products(out, whole) != self._wanted[whole]
        shutil.rmtree(out)

    def _wait(self, mode: str, driver: int, share: float, worker: bool) -> int:
        """Until a random moment of a run's time; the process to kill: a worker where one is wanted and there."""
        started, process = time.monotonic(), psutil.Process(driver)
        if worker and mode == "processes":  # they are there for a small part of a run: that is when the moment is
            while not _workers(mode, process) and _runs(process):
                time.sleep(0.01)
            time.sleep(2 * share)
        while not (worker and mode == "processes") and time.monotonic() - started < share * self.seconds[mode]:
            time.sleep(0.01)
            if not _runs(process):
                break
        at_work = _workers(mode, process) if worker else []
        return self._chance.choice(at_work).pid if at_work else driver

    def _undisturbed(self, mode: str) -> dict[str, bytes]:
        out = self._folder / f"undisturbed-{mode}"
        started = time.monotonic()
        process = self._start(mode, out)
        process.join()
        self.seconds[mode] = time.monotonic() - started
        assert process.exitcode == 0, (self._folder / "log").read_text()[-4000:]
        return _products(out, mode != "units")

    def _start(self, mode: str, out: Path) -> Any:
        parameters = self._parameters | MODES[mode] if mode != "units" else {"demo.count": 12, "partition_size": 4}
        arguments = (str(out), parameters, str(self._folder / "log"), os.environ.get("RAY_ADDRESS"))
        target = _build_units if mode == "units" else _build
        process = self._processes.Process(target=target, args=arguments)
        process.start()
        return process


def _print_to(log: str) -> None:
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _build_units(out: str, parameters: dict[str, Any], log: str, _: str | None) -> None:
    _print_to(log)
    set_up_process()
    run_all(Path(out), load_config({}, parameters), upto=_UNITS_END)


def _build(out: str, parameters: dict[str, Any], log: str, ray_address: str | None) -> None:
    _print_to(log)
    if ray_address:  # that of the server which forks is older
        os.environ["RAY_ADDRESS"] = ray_address
    from surd.flows.build import build_surd

    build_surd(out=out, **parameters)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _workers(mode: str, driver: psutil.Process) -> list[psutil.Process]:
    if mode not in ("processes", "ray"):
        return []
    with suppress(psutil.Error):
        if mode == "processes":
            return [one for one in driver.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
        return [one for one in psutil.Process().children(recursive=True) if _name(one).removeprefix("ray::") in BY_NAME]
    return []


def _name(process: psutil.Process) -> str:
    return next(iter(process.cmdline()), "").strip()


def _finished(out: Path) -> dict[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """What each finished unit has written: its files, and when and as what they were written."""
    build, done = Build(str(out)), {}
    for stage in STAGES:
        ledger = build.ledger(stage.name)
        for unit in ledger.units():
            if marker := ledger.marker(unit):
                files = tuple(sorted(marker.outputs))
                done[files] = _written(out, files)
    return done


def _written(out: Path, files: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    found = [(out / file).stat() if (out / file).exists() else None for file in files]
    return tuple((stat.st_ino, stat.st_mtime_ns) if stat else (0, 0) for stat in found)


def _products(out: Path, whole: bool) -> dict[str, bytes]:
    found = [path for part in _PRODUCTS[whole] for path in (out / part).rglob("*") if path.is_file()]
    names = {str(path.relative_to(out)): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not _OF_A_RUN.search(name)}


@contextmanager
def a_cluster() -> Iterator[None]:
    """A local Ray cluster of two workers, at RAY_ADDRESS."""
    import ray

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    context = ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()


@contextmanager
def with_server(folder: Path) -> Iterator[None]:
    """A Prefect server in the environment of this process and those it starts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    quiet = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_LOGGING_TO_API_ENABLED": "false"}
    with prefect_server(folder / "server", environment) as server:
        before = dict(os.environ)
        os.environ |= {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(folder / "server"), **quiet}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="in each mode (20)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES)[1:], help="all but units")
    parser.add_argument("--seed", type=int, default=11001)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no build after so many for each mode")
    options = parser.parse_args()
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as name, with_server(Path(name)):
        killing = Killing(Path(name), options.seed)
        for mode in options.modes:
            end = time.monotonic() + 60 * options.minutes
            with a_cluster() if mode == "ray" else nullcontext():
                outcomes[mode] = killing.kill(mode, options.kills, lambda end=end: time.monotonic() < end)
            print(f"{mode}: {outcomes[mode].document()}, {killing.seconds[mode]:.0f} s undisturbed", flush=True)
    figures = {mode: outcome.document() for mode, outcome in outcomes.items()}
    sound = all(outcome.sound for outcome in outcomes.values())
    print(json.dumps({"met": sound, "figures": figures}))
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
