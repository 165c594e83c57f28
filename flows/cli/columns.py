"""``surd columns``: list, add and drop the columns of a build."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from surd.flows.cli.options import BuildFolder
from surd.schemas.console import PlainConsole
from surd.schemas.printable import json_line, printable

app = typer.Typer(
    help="The columns of a build: LLM states, latents and text states, stored beside the shards under the same keys.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command("list")
def list_(
    build: BuildFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifests as one JSON document.")] = False,
) -> None:
    """List the columns of a build, what they hold and how large they are."""
    from surd.flows.add_columns import list_columns

    entries = list_columns(build)
    if as_json:
        documents = {entry.name: entry.manifest and entry.manifest.model_dump(mode="json") for entry in entries}
        print(json_line(documents))
        return
    table = Table("column", "samples", "shape", "dtype", "MB", "model", box=None, pad_edge=False)
    for numeric in (1, 4):
        table.columns[numeric].justify = "right"
    table.columns[0].overflow = table.columns[5].overflow = "fold"
    for entry in entries:
        manifest = entry.manifest
        if manifest is None:
            table.add_row(entry.name, "-", "unfinished: add it again to continue, or drop it")
            continue
        varies = "bucket" if manifest.buckets else "tokens"
        shape = " x ".join(varies if size is None else str(size) for size in manifest.shape)
        size = f"{entry.size / 1e6:.1f}"
        table.add_row(entry.name, f"{manifest.count:,}", shape, manifest.dtype, size, manifest.model)
    PlainConsole().print(table if entries else "no columns yet; add one: surd columns add BUILD --layer 20")


@app.command()
def add(
    build: BuildFolder,
    columns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]",
            help="latents, latents-buckets, clip-simple, clip-complex: made by the build's diffusion model.",
        ),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="A hidden layer of the LLM, 0 = embeddings. Repeatable.")
    ] = None,
    pooling: Annotated[
        list[str] | None, typer.Option(help="mean (default), last, tokens or all-layers. Repeatable.")
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="transformers causal LM: folder, hub id or .gguf file. Default: the build's own."),
    ] = None,
    param: Annotated[
        list[str],
        typer.Option("--param", metavar="FIELD=VALUE", help="Any config field: models.dtype=float32. Repeatable."),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
) -> None:
    """Add columns to a build; existing files are not touched. Run the same command again to continue after a kill.

    **Examples**

    - Two layers of another LLM, in one pass: `surd columns add data/demo --llm Qwen/Qwen2.5-0.5B --layer 12 --layer 24`

    - One vector per token: `surd columns add data/demo --layer 20 --pooling tokens`

    - The mean over all layers, one vector per token, for sur-train --llm-role attach: `surd columns add data/demo
    --pooling all-layers`

    - What lets a training run without opening images: `surd columns add data/demo latents clip-simple clip-complex`

    - Latents in aspect-ratio buckets, for sur-train --buckets: `surd columns add data/demo latents-buckets clip-simple
    clip-complex`

    An added column follows the shards when the build changes, until it is dropped.
    """
    from surd.flows.add_columns import add_columns
    from surd.flows.request import parse_params
    from surd.pipeline.runner.process_setup import set_up_process

    options = {"embed.columns": columns, "embed.layers": layer, "embed.pooling": pooling, "models.embed_llm": llm}
    fields = {name: value for name, value in options.items() if value}
    set_up_process()
    console = PlainConsole(stderr=True)
    parts = TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*parts, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("samples", total=None)
        manifests = add_columns(
            build, parse_params(param) | fields, lambda done, total: progress.update(task, completed=done, total=total)
        )
    for manifest in manifests:
        print(printable(f"{manifest.column}: {manifest.count} samples, {manifest.dtype}"))


@app.command()
def drop(
    build: BuildFolder,
    columns: Annotated[list[str], typer.Argument(metavar="COLUMN...", help="Names, as `surd columns list` shows.")],
) -> None:
    """Remove columns. One named in the build's own config comes back with the next `surd build`."""
    from surd.flows.add_columns import drop_columns

    drop_columns(build, columns)
    print(printable("dropped " + ", ".join(columns)))
