"""``surd forget``, and ``surd verify --forgotten``, which proves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from surd.flows.cli.options import BuildFolder
from surd.schemas.console import PlainConsole
from surd.schemas.printable import json_line, printable

if TYPE_CHECKING:
    from surd.pipeline.forget.forget import Removal

_SHOWN = 20


def forget(
    build: BuildFolder,
    records: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys, URLs of images, or URLs of their pages.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Every record of this author, now and later. Repeatable.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Every record of this host or one below it, now and later. Repeatable."),
    ] = None,
    list_: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="One key, URL or page URL a line; # begins a comment line."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Kept beside the hashes: why, and who asked.")
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies/--not-copies", help="Also other records of the same picture (bytes, or cluster).")
    ] = True,
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="Make this export of the build again, without the records. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove records from a build for good (takedown), and keep them out of every later build in that folder.

    Their rows stay, rejected as forgotten and without content. Pictures, prompts, scores, samples and columns go. Other
    shards stay as they are, no model runs, nothing is requested, and the next `surd build` redoes nothing.
    `forgotten.jsonl` keeps hashes alone.

    **Examples**

    - What would go: `surd forget data/web 0123456789abcdef --dry-run`

    - A takedown list: `surd forget data/web --list takedown.txt --reason "request of 2026-11-29"`

    - An author, and an export made before: `surd forget data/web --author "Jane Doe" --export data/web-parquet`

    - Proof: `surd verify data/web --forgotten`
    """
    from surd.pipeline.build.folder import Build
    from surd.pipeline.build.lock import exclusive
    from surd.pipeline.forget import forget as removal
    from surd.pipeline.forget.exports import check_export, export_again
    from surd.pipeline.forget.lists import read_list

    opened = Build(build)
    request = removal.RemovalRequest(
        records=[*(records or ()), *(read_list(list_) if list_ else ())],
        authors=author or (),
        hosts=host or (),
        reason=reason,
        copies=copies,
    )
    removal.check_build(opened)
    with exclusive(opened):
        if not dry_run:
            removal.finish_forgetting(opened)  # one that was killed
        plan = removal.plan_removal(opened, request)
        exports = [check_export(opened, folder) for folder in export or ()]
        if not dry_run:
            plan = removal.forget(opened, plan)
            for made in exports:
                export_again(opened, made)
    if as_json:
        print(json_line(to_json(plan, dry_run=dry_run)))
        return
    print_removal(PlainConsole(), plan, build, dry_run=dry_run, exports=export or [])


def to_json(plan: Removal, *, dry_run: bool) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    return {
        "dry_run": dry_run,
        "records": sorted(one.key for one in plan.fresh),
        "copies": {one.key: one.copy_of for one in plan.copies},
        "already_removed": sorted(one.key for one in plan.found.values() if not one.content),
        "shards": sorted(plan.shards),
        "bytes": plan.size,
        "removed": dict(plan.removed),
        "notes": plan.notes,
    }


def print_removal(console: Console, plan: Removal, build: str, *, dry_run: bool, exports: list[str]) -> None:
    """What was removed where, or would be."""
    will = "would be " if dry_run else ""
    shards = f", in {len(plan.shards):,} shard(s)" if plan.shards else ""
    line = f"{len(plan.fresh):,} record(s) {will}removed, {plan.size / 1e6:,.1f} MB of pictures{shards}"
    console.print(line, highlight=False, soft_wrap=True)
    for one in plan.copies[:_SHOWN]:
        console.print(f"  {one.key} as a copy of {one.copy_of}", highlight=False)
    if len(plan.copies) > _SHOWN:
        console.print(f"  and {len(plan.copies) - _SHOWN:,} more copies: --json lists all", highlight=False)
    if before := len(plan.found) - len(plan.fresh):
        console.print(f"{before:,} record(s) had been removed before", highlight=False)
    if dry_run:
        for shard, keys in sorted(plan.shards.items())[:_SHOWN]:
            console.print(f"  {shard}: {', '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}", highlight=False)
        return
    table = Table("what", box=None, pad_edge=False)
    table.add_column("removed or written anew", justify="right")
    for what, count in plan.removed.items():
        if count:
            table.add_row(what, f"{count:,}")
    console.print(table)
    for note in plan.notes:
        console.print(printable(f"note: {note}"), highlight=False, soft_wrap=True, markup=False)
    rest = "" if exports else "; exports made before still hold them: give each with --export, or make it again"
    console.print(
        printable(f"prove it: surd verify {build} --forgotten{rest}; what was trained on them keeps what it learnt"),
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip


def verify_forgotten(console: Console, root: str, limit: int, *, as_json: bool) -> bool:
    """Search a build for what was removed from it and print what is left; whether that is nothing."""
    from surd.pipeline.acquisition.tombstones import Tombstones
    from surd.pipeline.build.folder import Build
    from surd.pipeline.forget.leftovers import find_leftovers

    build = Build(root)
    files: list[str] = []
    left = list(find_leftovers(build, files.append))
    count = len(Tombstones.read(build).keys)
    if as_json:
        found = [{"file": one.file, "what": one.what} for one in left]
        print(json_line({"build": root, "records": count, "files": len(files), "left": found}))
    elif left:
        for one in left[:limit]:
            console.print(printable(f"{one.file}: {one.what}"), highlight=False, soft_wrap=True, markup=False)
        more = f" ({len(left) - limit:,} not shown; --json lists all)" if len(left) > limit else ""
        line = f"left of {count:,} record(s): {len(left):,} finding(s){more}; surd forget {root} removes them again"
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
    else:
        console.print(f"nothing left of {count:,} record(s), in {len(files):,} files", highlight=False, soft_wrap=True)
    return not left
