"""Turns a command into what it cost: seconds, processor time and peak memory of it and of every process it starts."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PERIOD = 0.2  # seconds between looks
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """``wall`` and ``cpu`` in seconds; ``memory`` in bytes, what processes share counted once."""

    wall: float
    cpu: float
    memory: int


def measured(command: list[str]) -> Cost:
    """Run a command to its end. Raises SystemExit with the end of its output when it fails."""
    with tempfile.TemporaryFile() as output:
        memory, seen, waited = 0, dict[int, float](), _waited_for()
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                process.wait(_PERIOD)
                break
            except subprocess.TimeoutExpired:
                memory = max(memory, _look(process.pid, seen))
        wall = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{output.read()[-2000:].decode(errors='replace')}")
    # What a process that nobody waited for took is only known from looking.
    return Cost(wall=wall, cpu=max(_waited_for() - waited, sum(seen.values())), memory=memory)


def _waited_for() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _look(root: int, seen: dict[int, float]) -> int:
    """The memory of a process and its descendants now; notes the processor time of each in ``seen``."""
    parents, times = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        pid = int(path.parent.name)
        parents[pid], times[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    family, memory = {root}, 0
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family & times.keys():
        seen[pid] = times[pid]
        try:
            found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        except OSError:
            continue
        memory += int(found.group(1)) * 1024 if found else 0
    return memory
