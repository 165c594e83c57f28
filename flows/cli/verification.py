"""``surd verify`` on a terminal: the check of a dataset with a progress bar, its table, and its JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import Finding, Manifests, read_manifests, verify
from surd.pipeline.runner.repair import Repaired
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas.printable import printable


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check read, and what it found broken."""

    root: str
    manifests: Manifests
    files: int
    bytes: int
    findings: Sequence[Finding]

    @property
    def sound(self) -> bool:
        return not self.findings

    @property
    def samples(self) -> int:
        return self.manifests.shards.count if self.manifests.shards else 0

    @property
    def shards(self) -> int:
        return len(self.manifests.shards.shards) if self.manifests.shards else 0

    @property
    def broken(self) -> list[str]:
        """The files with findings, each once, in the order of the findings."""
        return list(dict.fromkeys(finding.file for finding in self.findings))


def check(root: str, *, stages: bool, console: Console) -> CheckResult:
    """Verify a dataset. ``stages``: also what the markers of a build's stages vouch for.

    Raises SurdError when there is no dataset.
    """
    build = Build(root)
    manifests = read_manifests(build)
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    findings, files, size = list(manifests.findings), 0, 0
    with bar:
        task = bar.add_task("verify", total=manifests.bytes)
        for checked in verify(build, manifests):
            bar.update(task, advance=checked.size, description=printable(checked.file))
            files, size = files + 1, size + checked.size
            findings += checked.findings
        for checked in verify_stages(build) if stages else ():
            files, size = files + 1, size + checked.size
            bar.update(task, total=size, completed=size, description=printable(checked.file))
            findings += checked.findings
    return CheckResult(root=root, manifests=manifests, files=files, bytes=size, findings=findings)


def to_json(result: CheckResult, repaired: Sequence[Repaired] | None) -> dict[str, Any]:
    """The document that ``--json`` prints; ``repaired`` is None when nothing had to be repaired."""
    document = {
        "build": result.root,
        "sound": result.sound,
        "samples": result.samples,
        "shards": result.shards,
        "columns": sorted(result.manifests.columns),
        "files": result.files,
        "bytes": result.bytes,
        "broken": result.broken,
        "findings": [asdict(finding) for finding in result.findings],
    }
    return document if repaired is None else document | {"repaired": [asdict(file) for file in repaired]}


def print_check(console: Console, result: CheckResult, limit: int) -> None:
    """A table of what is broken, at most ``limit`` lines of it, or one line that the dataset is sound."""
    if result.sound:
        count = len(result.manifests.columns)
        columns = f", {count} column(s)" if count else ""
        line = f"sound: {result.samples:,} samples in {result.shards:,} shard(s){columns}, {result.bytes / 1e6:,.1f} MB"
        console.print(line, highlight=False, soft_wrap=True)
        return
    table = Table("file", "member", "what is wrong", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for finding in result.findings[:limit]:
        fields = (finding.file, finding.member, finding.problem)
        table.add_row(*(field or "-" for field in fields))
    console.print(table)
    if len(result.findings) > limit:
        more = f"and {len(result.findings) - limit:,} more: raise --limit to see them, or use --json for all"
        console.print(more, highlight=False)
    first = str(result.findings[0])
    console.print(f"\nbroken: {len(result.broken)} file(s); the first: {first}", soft_wrap=True)


def print_repair(console: Console, repaired: Sequence[Repaired]) -> None:
    """What became of each file that was to be repaired."""
    for one in repaired:
        done = f"repaired{': ' + one.note if one.note else ''}"
        how = f"not repaired: {one.problem}" if one.problem else done
        console.print(f"{one.file}: {how}", highlight=False, soft_wrap=True)
