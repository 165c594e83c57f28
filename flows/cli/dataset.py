"""The commands on a finished dataset: ``surd verify``, ``surd export`` and ``surd import``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from surd.flows.cli.options import BuildFolder
from surd.schemas.console import PlainConsole
from surd.schemas.errors import SurdError
from surd.schemas.printable import json_line, printable

OVERWRITE_HELP = "Replace a build of another source or profile, and forget the parameters given before."


def verify(
    build: BuildFolder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild the broken files, and only those, from the build's own stages.")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="Also hash the files that every stage wrote: rows, fetched bytes.")
    ] = False,
    forgotten: Annotated[
        bool, typer.Option("--forgotten", help="Instead, search every file for what surd forget has removed.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many findings.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on one line, with every finding.")] = False,
) -> None:
    """Check every promise of the format: hashes, counts, key order across columns, schema, dtype, shape, NaN.

    Needs only `shards/` and `columns/`, so it works on a dataset you downloaded; tars are read as untrusted input.

    Exit code 0: sound (or all repaired). 1: broken, and the first broken file is named. 2: there is no dataset.

    **Examples**

    - `surd verify data/demo`

    - Rebuild the broken shards with the same bytes, checked by sha256: `surd verify data/demo --repair`

    - That nothing is left of what was removed: `surd verify data/demo --forgotten`
    """
    from surd.flows.cli.forget import verify_forgotten
    from surd.flows.cli.verification import check, print_check, print_repair, to_json
    from surd.pipeline.build.folder import Build
    from surd.pipeline.build.lock import exclusive
    from surd.pipeline.runner.repair import repair as repair_files

    console = PlainConsole()
    if forgotten:
        if repair or stages:
            raise SurdError("--forgotten is a check of its own; leave out --repair and --stages")
        raise typer.Exit(0 if verify_forgotten(console, build, limit, as_json=as_json) else 1)
    result = check(build, stages=stages, console=console)
    repaired = None
    if repair and not result.sound:
        with exclusive(Build(build)):
            repaired = list(repair_files(Build(build), result.findings))
        result = check(build, stages=stages, console=console)
    if as_json:
        print(json_line(to_json(result, repaired)))
    else:
        print_repair(console, repaired or ())
        print_check(console, result, limit)
    raise typer.Exit(0 if result.sound else 1)


def export(
    build: BuildFolder,
    to: Annotated[
        str,
        typer.Option(
            help="authors, imagefolder, parquet or img2dataset; kohya, onetrainer, ai-toolkit, simpletuner, musubi or"
            " webshart."
        ),
    ],
    out: Annotated[str, typer.Option(help="A new folder (or URL).")],
    caption: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For trainers: simple (the default), complex, both, mixed (all there are), or a caption's name.",
        ),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(metavar="WORD", help="For trainers: what every caption begins with.")
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="For trainers: side of the square of as many pixels as theirs have; default 1024."
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="For trainers: where they find the folder, if it is not --out as it is here."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in that folder.")] = False,
) -> None:
    """Write a dataset in the layout of another tool, or as a trainer opens it.

    Of these `surd import` makes the same shards again, byte for byte:

    - `authors`: `train/metadata.jsonl` (file_name, text, prompt), images, `prompt2vec/LLM/LAYER.pt` of every LLM column

    - `imagefolder`: the same without vectors: `load_dataset("imagefolder", data_dir=OUT)`

    - `parquet`: `data/train-*.parquet` with an Image feature: `load_dataset(OUT)`, with the columns `image` and `text`

    - `img2dataset`: `00000.tar`, `00000.parquet`, `00000_stats.json`; the caption is the complex prompt

    These have `images/` with a `.txt` beside each picture, and the trainer's own config, which names the folder:

    - `kohya` and `musubi`: `dataset.toml`

    - `onetrainer`: `concepts.json` and `config.json`

    - `ai-toolkit`: `config.yaml`

    - `simpletuner`: `multidatabackend.json`

    `webshart` copies no picture: an index over the build's tars, and `multidatabackend.json`. With `--caption both` or
    `mixed` a picture has several captions, one a line, of which the trainer draws one (kohya, onetrainer, simpletuner,
    webshart).

    **Examples**

    - `surd export data/demo --to authors --out data/SURD`

    - `surd export data/demo --to kohya --out data/kohya --caption both --trigger sks`
    """
    from surd.flows.cli.console import counting
    from surd.pipeline.acquisition.tombstones import Tombstones
    from surd.pipeline.build.folder import Build
    from surd.pipeline.dataset.export import TRAINERS
    from surd.pipeline.dataset.export import export as write
    from surd.pipeline.dataset.export.caption_lines import without_named_caption
    from surd.pipeline.dataset.export.options import TrainerOptions
    from surd.pipeline.dataset.reader import read_manifest

    console = PlainConsole()
    dataset = Build(build)
    given = {"caption": caption, "trigger": trigger, "resolution": resolution, "root": root}
    options = TrainerOptions.given(**given) if any(value is not None for value in given.values()) else None
    total = read_manifest(dataset).count
    lacking = without_named_caption(dataset, options) if options and to in TRAINERS else 0
    keeps = Tombstones.read(dataset).keeps
    with counting(console, "export", total) as advance:
        count = write(dataset, to, Build(out), advance, overwrite=overwrite, options=options, keeps=keeps)
    console.print(f"{count:,} samples: {out}", highlight=False, soft_wrap=True)
    if count < total:
        console.print(f"{total - count:,} sample(s) left out: surd forget has removed them", highlight=False)
    if lacking:
        line = f"{lacking:,} sample(s) have no caption called {caption}: theirs is the simple prompt"
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="authors:FOLDER, imagefolder:FOLDER, parquet:FOLDER, img2dataset:FOLDER or urls:FILE.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder (or URL) of the build.")],
    param: Annotated[
        list[str],
        typer.Option(
            "--param", metavar="FIELD=VALUE", help="Any config field: --param pack.max_count=500. Repeatable."
        ),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    pooling: Annotated[
        Literal["mean", "last"],
        typer.Option(help="How vectors were pooled from tokens, if the layout does not say."),
    ] = "mean",
    vectors: Annotated[bool, typer.Option("--vectors/--no-vectors", help="Import prompt2vec/LLM/LAYER.pt.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE_HELP)] = False,
) -> None:
    """Import a finished dataset as it is: images, both prompts, provenance, LLM vectors. Nothing is curated.

    A row needs an image and both prompts; rows that lack one, or whose image is broken, are counted by reason. To
    curate instead, use the folder as a source: `surd build --source authors:FOLDER`.

    **Examples**

    - The authors' SURD: `surd import authors:SURD --out data/surd`

    - Columns of other names: `surd import parquet:their_set --out data/theirs --param urls.simple_column=short`
    """
    from surd.flows.cli.console import Terminal, print_summary
    from surd.flows.import_dataset import Import, import_dataset
    from surd.flows.request import parse_params

    console = PlainConsole()
    fields = parse_params(param)
    if "source" in fields:
        raise SurdError("--param is 'source': an import takes its source from the argument SOURCE; remove this --param")
    terminal = Terminal(console)
    try:
        request = Import(
            layout=source, out=out, fields=fields, pooling=pooling if vectors else None, overwrite=overwrite
        )
        summary = import_dataset(request, terminal)
    finally:
        terminal.close()
    print_summary(console, summary)
