"""The command ``surd publish``: a finished dataset on the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from surd.schemas.console import PlainConsole
from surd.schemas.errors import SurdError
from surd.schemas.printable import json_line

if TYPE_CHECKING:
    from surd.flows.publish import Publication
    from surd.pipeline.dataset.publish.provenance import Provenance

_SHOWN = 20


def publish(
    build: Annotated[str, typer.Argument(metavar="BUILD", help="The folder (or URL) of a build.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hf://datasets/OWNER/NAME")],
    columns: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A column to publish too, or `all`. Repeatable.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also publish report.html.")] = False,
    public: Annotated[
        bool, typer.Option("--public/--private", help="Whether anybody sees a repo that is made now.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Push to this branch, which is made if missing. Default: main.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="First check every file as `surd verify` does.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Publish pictures of which no licence is known, too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would leave; nothing is requested.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Publish a dataset on the Hugging Face hub: shards, index, manifests, a card and Croissant metadata.

    Nothing else leaves: no fetched or rejected picture, row, decision or config. Only what the repo lacks is sent, in
    one commit; a push that was killed goes on where it was. Files of shards that are gone are removed from the repo.

    The token is HF_TOKEN, or that of `hf auth login`. See docs/publish.md.

    **Examples**

    - What would leave: `surd publish data/web hf://datasets/me/web --dry-run`

    - With all columns, for everybody: `surd publish data/web hf://datasets/me/web --columns all --public`
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from surd.flows import publish as publishing
    from surd.flows.cli.console import counting
    from surd.pipeline.build.folder import Build
    from surd.pipeline.build.lock import exclusive
    from surd.pipeline.dataset.publish.hub import HubRepo
    from surd.pipeline.dataset.publish.target import parse_target

    console, opened = PlainConsole(), Build(build)
    where = parse_target(target, revision)
    if dry_run:
        publishing.check_publishable(opened)
        publication = publishing.plan_publication(opened, where, columns or (), report=report)
        _show(console, publication, as_json=as_json)
        return
    disable_progress_bars()
    with exclusive(opened):
        publishing.check_publishable(opened)
        if verify:
            _verify(build, console)
        publication = publishing.plan_publication(opened, where, columns or (), report=report)
        if not as_json:
            _print_provenance(console, publication.provenance)
        if (unknown := publication.provenance.without_licence) and not yes:
            raise SurdError(
                f"build is {build!r}: of {unknown:,} of its {publication.provenance.count:,} pictures no licence is"
                " known; give --yes to publish them too, or take them out"
            )
        repo = HubRepo(where)
        notes = repo.prepare(public=public)
        difference = repo.difference(publication.files)
        with counting(console, "publish", difference.bytes) as advance:
            message = f"{publication.provenance.count:,} samples, by surd"
            notes += repo.push(opened, difference, message, advance, trusted=verify)
        repo.check(publication.files)
    if publication.own_card:
        notes.append("README.md is your own and was published as it is")
    if as_json:
        document = {
            "url": where.url, "revision": where.revision, "samples": publication.provenance.count,
            "sent": [file.path for file in difference.changed], "bytes": difference.bytes,
            "unchanged": len(difference.unchanged), "removed": difference.gone, "notes": notes,
        }  # fmt: skip
        print(json_line(document))
        return
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
    sent = f"{len(difference.changed):,} file(s) sent, {difference.bytes / 1e6:,.1f} MB"
    console.print(
        f"{where.url}: {sent}, {len(difference.unchanged):,} as they were, {len(difference.gone):,} removed",
        soft_wrap=True,
    )
    if difference.replaced:
        console.print(
            "earlier versions stay in the repo's history: docs/publish.md says how to squash it", soft_wrap=True
        )


def _verify(build: str, console: Console) -> None:
    from surd.flows.cli.verification import check

    result = check(build, stages=False, console=console)
    if not result.sound:
        count = f"{len(result.findings):,} finding(s), the first: {result.findings[0]}"
        raise SurdError(f"build is {build!r} and is not sound ({count}); see surd verify, and repair it with --repair")


def _show(console: Console, publication: Publication, *, as_json: bool) -> None:
    if as_json:
        files = [{"path": file.path, "bytes": file.size} for file in publication.files]
        print(json_line({"dry_run": True, "files": files, "bytes": publication.bytes}))
        return
    table = Table("file", "bytes", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for file in publication.files:
        table.add_row(file.path, f"{file.size:,}")
    console.print(table)
    _print_provenance(console, publication.provenance)
    count = len(publication.files)
    console.print(
        f"{count:,} file(s), {publication.bytes / 1e6:,.1f} MB would be in the repo; nothing was sent", soft_wrap=True
    )


def _print_provenance(console: Console, provenance: Provenance) -> None:
    table = Table("licence", "terms", "pictures", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for (licence, terms), count in provenance.licences.most_common(_SHOWN):
        table.add_row((licence or "none stated")[:80], (terms or "")[:80], f"{count:,}")
    if (rest := len(provenance.licences) - _SHOWN) > 0:
        table.add_row(f"and {rest:,} more", "", "")
    console.print(table)
    if provenance.local:
        console.print(
            f"note: {provenance.local:,} sample(s) name a folder of this machine in `source`, which leaves with them",
            soft_wrap=True,
        )
