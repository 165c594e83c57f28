"""make bench-scale: what a build costs as it grows, each part in a process of its own, one after the other.

Every part is a module that ends with one line of JSON: ``{"met": ..., "figures": {name: {"value", "goal", "met"}}}``.
One that is missing, crashes or says nothing of the kind is an error, and the others run all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

PARTS = ("ledger", "reduces", "objects", "growth", "forget", "overlap", "prefect_load")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One part's figures, by name; or why there are none."""

    part: str
    seconds: float
    figures: dict[str, dict[str, Any]]
    error: str | None = None

    @property
    def met(self) -> bool:
        return self.error is None and all(figure["met"] for figure in self.figures.values())


def run(part: str, package: str = "tests.bench") -> Ran:
    """Run one part; what it writes beside its last line goes to this process's standard error."""
    began = time.perf_counter()
    command = [sys.executable, "-m", f"{package}.{part}"]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    *others, last = process.stdout.splitlines() or [""]
    print("\n".join(others), file=sys.stderr)
    figures, error = _figures(last, process.returncode)
    return Ran(part=part, seconds=time.perf_counter() - began, figures=figures, error=error)


def _figures(last: str, code: int) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The figures of a part's last line, and what is wrong with the line or the exit code."""
    try:
        document = json.loads(last)
        met, figures = document["met"], document["figures"]
        all_met = all(figure["met"] is True for figure in figures.values())
        complete = all({"value", "goal", "met"} <= figure.keys() for figure in figures.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}, f"its last line gives no figures; exit code {code}"
    if not figures or not complete:
        return {}, f"its last line lacks figures with value, goal and met; exit code {code}"
    if met != all_met or (code == 0) != met:
        return figures, f"it says met is {met}, its figures say {all_met}, and its exit code is {code}"
    return figures, None


def table(ran: Sequence[Ran]) -> Table:
    """All figures, beside their goals."""
    drawn = Table("part", "figure", "value", "goal", "", box=None)
    for one in ran:
        for name, figure in one.figures.items():
            drawn.add_row(one.part, name, f"{figure['value']}", figure["goal"], "met" if figure["met"] else "MISSED")
        if one.error:
            drawn.add_row(one.part, "", "", "", f"ERROR: {one.error}")
    return drawn


def main(argv: Sequence[str] | None = None, parts: Sequence[str] = PARTS, package: str = "tests.bench") -> int:
    """Print the table and one JSON line of all figures beside their goals; 1 if one misses or a part fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--only", choices=parts, action="append", help="run this part; may be given several times")
    args = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    ran = []
    for part in args.only or parts:
        ran.append(run(part, package))
        console.print(f"{part}: {'met' if ran[-1].met else 'MISSED'} after {ran[-1].seconds:.0f} s")
    console.print(table(ran))
    met = all(one.met for one in ran)
    errors = {one.part: one.error for one in ran if one.error}
    figures = {f"{one.part}.{name}": figure for one in ran for name, figure in one.figures.items()}
    print(json.dumps({"met": met, "figures": figures, "errors": errors}))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
