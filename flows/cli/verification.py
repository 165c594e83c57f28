"""Turns a check of a dataset, and its repair, into one document and the lines that a person reads."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import Finding, read_manifests, verify
from surd.pipeline.runner.repair import Repaired, repair
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas.shard_format.tar import printable


def check(root: str, *, stages: bool, console: Console) -> dict[str, Any]:
    """Verify a dataset and say how it stands: ``sound``, ``samples``, ``files``, ``bytes``, ``findings``, ``broken``.

    ``stages``: also what the markers of a build's stages vouch for. Raises SurdError when there is no dataset.
    """
    build = Build(root)
    found = read_manifests(build)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    findings, files, size = list(found.findings), 0, 0
    with bar:
        task = bar.add_task("verify", total=found.bytes)
        for checked in verify(build, found):
            bar.update(task, advance=checked.size, description=escape(checked.file))
            files, size = files + 1, size + checked.size
            findings += checked.findings
        for checked in verify_stages(build) if stages else ():
            files, size = files + 1, size + checked.size
            bar.update(task, total=size, completed=size, description=escape(checked.file))
            findings += checked.findings
    return {
        "build": root,
        "sound": not findings,
        "samples": found.shards.count if found.shards else 0,
        "shards": len(found.shards.shards) if found.shards else 0,
        "columns": sorted(found.columns),
        "files": files,
        "bytes": size,
        "broken": list(dict.fromkeys(finding.file for finding in findings)),
        "findings": [finding.__dict__ for finding in findings],
    }


def print_check(console: Console, told: dict[str, Any], limit: int) -> None:
    """A table of what is broken, at most ``limit`` lines of it, or one line that all is well."""
    if told["sound"]:
        columns = f", {len(told['columns'])} column(s)" if told["columns"] else ""
        line = (
            f"sound: {told['samples']:,} samples in {told['shards']:,} shard(s){columns}, {told['bytes'] / 1e6:,.1f} MB"
        )
        console.print(line, highlight=False, soft_wrap=True)
        return
    table = Table("file", "member", "what is wrong", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for finding in told["findings"][:limit]:
        table.add_row(*(escape(printable(finding[name] or "-")) for name in ("file", "member", "problem")))
    console.print(table)
    if len(told["findings"]) > limit:
        console.print(f"and {len(told['findings']) - limit:,} more: --limit, or --json for all", highlight=False)
    first = Finding(**told["findings"][0])
    console.print(
        f"\nbroken: {len(told['broken'])} file(s); the first: {escape(printable(str(first)))}", soft_wrap=True
    )


def mend(root: str, told: dict[str, Any]) -> list[Repaired]:
    """Repair what a check found broken, file by file. What cannot be repaired says why."""
    return list(repair(Build(root), [Finding(**finding) for finding in told["findings"]]))


def print_repair(console: Console, told: dict[str, Any]) -> None:
    """What became of each file that was to be repaired; nothing where nothing was."""
    for one in told.get("repaired", ()):
        how = (
            f"not repaired: {one['problem']}"
            if one["problem"]
            else f"repaired{': ' + one['note'] if one['note'] else ''}"
        )
        console.print(escape(f"{one['file']}: {how}"), highlight=False, soft_wrap=True)
