"""A running build, and its result, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from surd.flows.fetch_watch import clock, format_progress, host_rows
from surd.flows.listener import Listener, RecordProgress, StageSummary
from surd.pipeline.acquisition.progress import FetchProgress
from surd.pipeline.inspection.lookup import shortest
from surd.pipeline.inspection.summary import funnel
from surd.schemas.printable import printable


class Terminal(Listener):
    """A bar for each stage under way and a line for each finished one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = _Bar(console)
        self._running: dict[str, tuple[TaskID, float, str]] = {}  # its bar, when it started, beside which other
        self._by_record: set[str] = set()  # stages whose bars count records

    def stage_started(self, stage: str, units: int) -> None:
        beside = next(iter(self._running), "")
        self._bar.start()
        task = self._bar.add_task(stage, total=units, status="", progress=None)
        self._by_record.discard(stage)
        self._running[stage] = task, time.perf_counter(), beside

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage != "fetch" and stage not in self._by_record:  # the bar of fetch counts images
            self._bar.update(self._running[stage][0], completed=done)

    def records(self, stage: str, progress: RecordProgress) -> None:
        self._by_record.add(stage)
        task = self._running[stage][0]
        self._bar.update(task, total=progress.total, completed=progress.done, progress=progress)

    def fetching(self, progress: FetchProgress) -> None:
        self._bar.hosts = host_table(progress)
        done, status = progress.all_hosts.images, format_progress(progress)
        task = self._running["fetch"][0]
        self._bar.update(task, total=progress.total, completed=done, status=status, refresh=True)

    def stage_done(self, stage: str, summary: StageSummary) -> None:
        task, started, beside = self._running.pop(stage)
        self._bar.remove_task(task)
        if not self._running:
            self._bar.stop()
        seconds = f"{time.perf_counter() - started:.1f} s" + (f" beside {beside}" if beside else "")
        self._console.print(f"{stage:8} {_format_summary(summary)}  {seconds}", highlight=False, soft_wrap=True)
        if summary.note:
            self._console.print(f"warning: {summary.note}", highlight=False, soft_wrap=True, markup=False)
        if stage == "fetch" and self._bar.hosts and self._bar.hosts.row_count > 1:
            self._console.print(Padding(self._bar.hosts, (0, 0, 0, 9)))
        self._bar.hosts = None  # else it would stand under the bars of later stages

    def close(self) -> None:
        """Take the bars off the screen, also when a stage failed."""
        for task, _, _ in self._running.values():
            self._bar.remove_task(task)
        if self._running:
            self._bar.stop()
        self._running.clear()


@contextmanager
def counting(console: Console, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar while the block lasts; the function it gives advances the bar by a count."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


class _Speed(ProgressColumn):
    """Records a second and the time left of a stage, which goes on counting down between two counts."""

    def render(self, task: Task) -> Text:
        progress: RecordProgress | None = task.fields.get("progress")
        return Text(format_records(progress, time.monotonic()) if progress else "")


def format_records(progress: RecordProgress, now: float) -> str:
    """``12.3 records/s, 0:01:20 left``; before the first record is done by an earlier run, if there was one."""
    rate, left = progress.rate, progress.seconds_left(now)
    if not rate or left is None:
        return "no record is done yet"
    unknown = "?" if left == 0.0 and progress.done < progress.total else ""
    earlier = ", by an earlier run" if progress.done <= progress.resumed else ""
    return f"{rate:,.1f} records/s, {unknown or clock(left)} left{earlier}"


class _Bar(Progress):
    """A line with a bar, and below it the table of hosts, if any."""

    def __init__(self, console: Console) -> None:
        self.hosts: Table | None = None
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        status = TextColumn("{task.fields[status]}", markup=False)
        super().__init__(*columns, _Speed(), status, console=console, transient=True, disable=not console.is_terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.hosts and self.tasks:
            yield self.hosts


def host_table(progress: FetchProgress) -> Table:
    """The hosts of a fetch as a table for a terminal."""
    table = Table("host", "images", "kept", "MB", "reasons", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in host_rows(progress):
        table.add_row(*(str(value) for value in row.values()))
    return table


def _format_summary(summary: StageSummary) -> str:
    units = f"{summary.units:3} unit{'s' if summary.units != 1 else ' '}"
    if summary.skipped == summary.units:
        return f"{units}  already done"
    parts = [units]
    if summary.skipped:
        parts.append(f"{summary.skipped} already done")
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.most_common())
        parts.append(f"{summary.rejected.total()} rejected: {reasons}")
    return "  ".join(parts)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The funnel as a table, a note if all units were already done, and the path of the report."""
    table = Table("rows", "count", "meaning", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, count, meaning in funnel(summary):
        table.add_row(name, str(count), meaning)
    console.print()
    console.print(table)
    console.print()
    for note in summary.get("notes", ()):
        console.print(f"warning: {note}", highlight=False, soft_wrap=True, markup=False)
    if summary["run_units"] == 0:
        console.print(f"nothing to do: all {summary['skipped_units']} units were already done", highlight=False)
    console.print(f"report: {summary['report']}", highlight=False, soft_wrap=True)


def print_record(console: Console, record: dict[str, Any]) -> None:
    """What ``lookup`` gives, as one small table for the record, each stage and the shard."""
    _print_mapping(console, record["key"], record["status"] | record["paths"])
    for stage, row in record["stages"].items():
        own = {name: value for name, value in row.items() if name not in ("key", *record["status"])}
        _print_mapping(console, stage, own)
    if record["shard"]:
        _print_mapping(console, "shard", record["shard"])


def _print_mapping(console: Console, title: str, values: dict[str, Any]) -> None:
    console.print(Text(printable(title), style="bold"))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            table.add_row(Text(printable(name), style="dim"), _short(value))
    console.print(table)
    console.print()


def _short(value: Any) -> str:
    """A value as text; an embedding is shown as its length."""
    if isinstance(value, list) and len(value) > 32 and isinstance(value[0], float):
        return f"{len(value)} numbers"
    return "\n".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict) and {"name", "text", "score", "model", "dropped"} == value.keys():  # a Caption
        score = "" if value["score"] is None else f" ({shortest(round(value['score'], 4))})"
        return f"{value['name']}: {value['text']}{score}" + "".join(f"\n  {fact}" for fact in value["dropped"])
    return str(shortest(value)) if isinstance(value, float) else str(value)
