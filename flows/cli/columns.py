"""``surd columns``: list, add and drop the columns of a build."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="The columns of a build: LLM states, latents and text states beside the shards, by the same keys.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
BuildFolder = Annotated[str, typer.Argument(metavar="BUILD", help="The folder (or URL) of a build.")]


@app.command("list")
def list_(
    build: BuildFolder,
    as_json: Annotated[bool, typer.Option("--json", help="The manifests, as one JSON document.")] = False,
) -> None:
    """What columns a build has, what is in them and how large they are."""
    from surd.flows.add_columns import list_columns

    listed = list_columns(build)
    if as_json:
        documents = {one.name: one.manifest and one.manifest.model_dump(mode="json") for one in listed}
        print(json.dumps(documents, ensure_ascii=False))
        return
    table = Table("column", "samples", "shape", "dtype", "MB", "model", box=None, pad_edge=False)
    for at in (1, 4):
        table.columns[at].justify = "right"
    table.columns[0].overflow = table.columns[5].overflow = "fold"
    for one in listed:
        if one.manifest is None:
            table.add_row(one.name, "-", "unfinished: add it again to go on, or drop it")
            continue
        shape = " x ".join("tokens" if size is None else str(size) for size in one.manifest.shape)
        size = f"{one.size / 1e6:.1f}"
        table.add_row(one.name, f"{one.manifest.count:,}", shape, one.manifest.dtype, size, one.manifest.model)
    Console().print(table if listed else "no columns; add one: surd columns add BUILD --layer 20")


@app.command()
def add(
    build: BuildFolder,
    columns: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]", help="latents, clip-simple, clip-complex: by the build's diffusion model."),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="A hidden layer of the LLM, 0 = embeddings. Repeatable.")
    ] = None,
    pooling: Annotated[list[str] | None, typer.Option(help="mean (default), last or tokens. Repeatable.")] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="transformers causal LM: folder, hub id or .gguf file. Default: the build's own."),
    ] = None,
    param: Annotated[
        list[str],
        typer.Option("--param", metavar="FIELD=VALUE", help="Any config field: models.dtype=float32. Repeatable."),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
) -> None:
    """Add columns to a build; nothing that is there is touched. The same command again continues after a kill.

    **Examples**

    - Two layers of another LLM, in one pass: `surd columns add data/demo --llm Qwen/Qwen2.5-0.5B --layer 12 --layer 24`

    - One vector a token: `surd columns add data/demo --layer 20 --pooling tokens`

    - All that lets a training open no image: `surd columns add data/demo latents clip-simple clip-complex`

    An added column follows the shards when the build changes, until it is dropped.
    """
    from surd.flows.add_columns import add_columns
    from surd.flows.request import parse_params

    asked = {"embed.columns": columns, "embed.layers": layer, "embed.pooling": pooling, "models.embed_llm": llm}
    fields = {name: value for name, value in asked.items() if value}
    told = Console(stderr=True)
    parts = TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*parts, console=told, disable=not told.is_terminal) as progress:
        task = progress.add_task("shards", total=None)
        made = add_columns(
            build, parse_params(param) | fields, lambda done, all_: progress.update(task, completed=done, total=all_)
        )
    for one in made:
        print(f"{one.column}: {one.count} samples, {one.dtype}")


@app.command()
def drop(
    build: BuildFolder,
    columns: Annotated[list[str], typer.Argument(metavar="COLUMN...", help="Names, as `surd columns list` shows.")],
) -> None:
    """Remove columns. One that the build's own config asks for comes back with the next `surd build`."""
    from surd.flows.add_columns import drop_columns

    drop_columns(build, columns)
    print("dropped " + ", ".join(columns))
