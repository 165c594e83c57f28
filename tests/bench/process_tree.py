"""Cost of a command: wall time, processor time and peak memory of it and of all its child processes."""

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
_PERIOD = 0.2  # seconds between samples
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """``wall`` and ``cpu`` in seconds; ``memory`` in bytes, shared memory counted once."""

    wall: float
    cpu: float
    memory: int


def measured(command: list[str]) -> Cost:
    """Run a command to its end. Raises SystemExit with the end of its output if it fails."""
    with tempfile.TemporaryFile() as output:
        memory, times, waited = 0, dict[int, float](), _children_time()
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                process.wait(_PERIOD)
                break
            except subprocess.TimeoutExpired:
                memory = max(memory, _sample(process.pid, times))
        wall = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{output.read()[-2000:].decode(errors='replace')}")
    # The time of a process that is never waited for is only known from the samples.
    return Cost(wall=wall, cpu=max(_children_time() - waited, sum(times.values())), memory=memory)


def _children_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sample(root: int, times: dict[int, float]) -> int:
    """The memory of a process and its descendants now; the processor time of each goes into ``times``."""
    parents, now = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        pid = int(path.parent.name)
        parents[pid], now[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    family, memory = {root}, 0
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family & now.keys():
        times[pid] = now[pid]
        try:
            match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        except OSError:
            continue
        memory += int(match.group(1)) * 1024 if match else 0
    return memory
