"""Turns a build under way, and its result, into lines on a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.progress import Listener
from flows.summary import funnel
from pipeline.stages import Outcome


class Terminal(Listener):
    """A bar for the stage at work and a line for each that is done."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None
        self._started = 0.0

    def stage_started(self, stage: str, units: int) -> None:
        self._started = time.perf_counter()
        self._bar.start()
        self._task = self._bar.add_task(stage, total=units)

    def unit_done(self, outcome: Outcome) -> None:
        assert self._task is not None, "a stage starts before its units end"
        self._bar.advance(self._task)

    def stage_done(self, stage: str, outcomes: list[Outcome]) -> None:
        self.close()
        seconds = time.perf_counter() - self._started
        self._console.print(f"{stage:8} {_tell(outcomes)}  {seconds:.1f} s", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the screen, also when the stage failed."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._bar.stop()
            self._task = None


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar while the block lasts; what is given moves it on."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _tell(outcomes: list[Outcome]) -> str:
    units = f"{len(outcomes):3} unit{'s' if len(outcomes) != 1 else ' '}"
    skipped = sum(outcome.skipped for outcome in outcomes)
    if skipped == len(outcomes):
        return f"{units}  already done"
    parts = [units]
    if skipped:
        parts.append(f"{skipped} already done")
    if rejected := sum((Counter(outcome.rejected) for outcome in outcomes), Counter()):
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        parts.append(f"{rejected.total()} rejected: {reasons}")
    return "  ".join(parts)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The funnel as a table, whether anything had to be done, and the path of the report."""
    table = Table("rows", "count", "meaning", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, count, meaning in funnel(summary):
        table.add_row(name, str(count), meaning)
    console.print()
    console.print(table)
    console.print()
    if summary["run_units"] == 0:
        console.print(f"nothing to do: all {summary['skipped_units']} units were already done", highlight=False)
    console.print(f"report: {summary['report']}", highlight=False, soft_wrap=True)
