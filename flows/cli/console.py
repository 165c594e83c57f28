"""Turns a build under way, and its result, into lines on a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from surd.flows.cli.fetch_table import table, tell
from surd.flows.listener import Listener
from surd.pipeline.acquisition.progress import FetchProgress
from surd.pipeline.inspection.summary import funnel
from surd.pipeline.runner.run_unit import Outcome


class Terminal(Listener):
    """A bar for the stage at work and a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = _Bar(console)
        self._task: TaskID | None = None
        self._started = 0.0

    def stage_started(self, stage: str, units: int) -> None:
        self._started = time.perf_counter()
        self._bar.start()
        self._task = self._bar.add_task(stage, total=units, said="")

    def unit_done(self, outcome: Outcome) -> None:
        assert self._task is not None, "a stage starts before its units end"
        if outcome.stage != "fetch":  # that tells of its images
            self._bar.advance(self._task)

    def fetching(self, progress: FetchProgress) -> None:
        assert self._task is not None, "a stage starts before its units end"
        self._bar.hosts = host_table(progress)
        self._bar.update(
            self._task, total=progress.total, completed=progress.all_hosts.images, said=tell(progress), refresh=True
        )

    def stage_done(self, stage: str, outcomes: list[Outcome]) -> None:
        self.close()
        seconds = time.perf_counter() - self._started
        self._console.print(f"{stage:8} {_tell(outcomes)}  {seconds:.1f} s", highlight=False, soft_wrap=True)
        if stage == "fetch" and self._bar.hosts and self._bar.hosts.row_count > 1:
            self._console.print(Padding(self._bar.hosts, (0, 0, 0, 9)))

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


class _Bar(Progress):
    """A line with a bar, and below it the hosts while there are any to show."""

    def __init__(self, console: Console) -> None:
        self.hosts: Table | None = None
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        said = TextColumn("{task.fields[said]}")
        super().__init__(*columns, said, console=console, transient=True, disable=not console.is_terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.hosts and self.tasks:
            yield self.hosts


def host_table(progress: FetchProgress) -> Table:
    """The hosts of a fetch as a table for a terminal."""
    found = Table("host", "images", "kept", "MB", "reasons", box=None, pad_edge=False)
    for column in found.columns[1:4]:
        column.justify = "right"
    for row in table(progress):
        found.add_row(*(str(value) for value in row.values()))
    return found


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
