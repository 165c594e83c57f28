"""The command line ``surd``. Each command imports what it needs, so that ``surd --help`` loads nothing heavy."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from surd.flows.cli import columns as columns_cli
from surd.flows.cli import config as config_cli
from surd.flows.cli import dataset as dataset_cli
from surd.flows.cli import decide as decide_cli
from surd.flows.cli import facts as facts_cli
from surd.flows.cli import forget as forget_cli
from surd.flows.cli import publish as publish_cli
from surd.flows.cli import view as view_cli
from surd.flows.cli.dataset import OVERWRITE_HELP
from surd.flows.cli.options import BuildFolder
from surd.schemas.console import PlainConsole
from surd.schemas.errors import FULL, NothingKept, SurdError
from surd.schemas.printable import json_line, printable, set_up_terminal

app = typer.Typer(
    epilog="Start with: surd demo. Then your own pictures: surd build --source folder:my_images --out data/mine",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)

PROFILE_HELP = "demo, small, paper, or a path to a YAML file."
Profile = Annotated[str, typer.Option(help=PROFILE_HELP)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help=OVERWRITE_HELP)]
Params = Annotated[
    list[str],
    typer.Option(
        "--param",
        metavar="FIELD=VALUE",
        help="Any config field, dotted, as YAML: --param correct.tolerance=0.1. Repeatable.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"surd {version('surd')}")
        raise typer.Exit


@app.callback()
def surd(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn scraped prompt/image pairs into a SURD dataset: simple prompt, complex prompt, image, LLM embedding."""


@app.command()
def build(
    profile: Annotated[str | None, typer.Option(help=f"{PROFILE_HELP} Default: demo.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="demo, civitai:?QUERY, lexica:WORDS, gallery:URL, folder:PATH, urls:FILE, img2dataset:FOLDER, "
            "huggingface:FOLDER, authors:FOLDER or diffusiondb:FOLDER."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder (or URL) of the build. Default: data/PROFILE, for the demo source alone.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of config fields, laid over the profile.")] = None,
    param: Params = [],  # noqa: B006 - typer reads the default and never changes it
    limit: Annotated[int | None, typer.Option(help="Collect at most this many records.")] = None,
    correction: Annotated[
        str | None,
        typer.Option(help="facts: check and repair each fact (default); paper: the paper's plain rule, to compare."),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read the source again: what is new is added, what it has no more goes.")
    ] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a build would do: records, GB, models, stages, minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON document.")] = False,
) -> None:
    """Build a dataset, or continue one: finished work is skipped.

    A folder remembers its source, profile and parameters: what is not given again stays as it was.

    **Examples**

    - The embedded demo world: `surd build`

    - A folder of AI images: `surd build --source folder:my_images --out data/mine`

    - A list of URLs with prompts: `surd build --source urls:laion.parquet --limit 1000 --out data/list`

    - The output of img2dataset: `surd build --source img2dataset:its_output --out data/taken-over`

    - Civitai (key, if any, in CIVITAI_API_KEY): `surd build --source "civitai:?sort=Newest&nsfw=None" --limit 1000
      --out data/civitai`

    - A gallery's API: `surd build --source gallery:https://example.org/api/v1/images --limit 1000 --out data/web`
      (a key in the environment: `gallery:https://example.org/api/v1/images?token=${TOKEN}`)

    - Stricter, on the same build; only what depends on it is redone:
      `surd build --out data/mine --param select.min_clip_simple=0.2`

    - What a gallery has new: `surd build --out data/web --refresh`

    - From the profile's own parameters again: `surd build --out data/mine --overwrite`

    - What it would do, within ten seconds, and which models are missing (then it exits with code 2):
      `surd build --source folder:my_images --out data/mine --profile small --dry-run`

    - What a stricter rule would keep, without building: `surd select BUILD --param select.min_clip_simple=0.2`

    All config fields and their meaning: `surd config`.
    """
    from surd.flows.request import parse_params

    options = (("source", source), ("limit", limit), ("correct.rule", correction))
    fields = {name: value for name, value in options if value is not None}
    if dry_run:
        _forecast(profile, out, config, parse_params(param) | fields, overwrite, refresh=refresh, as_json=as_json)
        return
    if as_json:
        raise SurdError("--json is given without --dry-run: only that prints a document; add it, or remove --json")
    _build(profile, out, config, parse_params(param) | fields, overwrite, refresh=refresh)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder of the build.")] = "data/demo",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the adapter.")] = 200,
    param: Params = [],  # noqa: B006
    overwrite: Overwrite = False,
) -> None:
    """The whole job on the embedded demo world: build, train the adapter, measure what its pictures gain.

    Ends with one JSON line, also written to `summary.json` in the build.
    """
    from surd.flows.demo_job import TrainingFailed, train_and_measure
    from surd.flows.request import parse_params

    summary = _build("demo", out, None, parse_params(param) | {"source": "demo"}, overwrite)
    try:
        figures = train_and_measure(summary, out, steps, overwrite)
    except TrainingFailed as error:
        raise typer.Exit(error.args[0]) from None
    effect = figures["effect"]
    gain = f"{effect['adapter'] - effect['base']:+.1f} ± {effect['half_interval']}"
    print(f"right by the judge: base {effect['base']}%, adapter {effect['adapter']}%, {gain}")
    print(printable(f"report: {figures['report']}\ngrid: {figures['grid']}", lines=True))
    print(json_line(figures))


@app.command()
def select(
    build: Annotated[str | None, typer.Argument(metavar="BUILD", help="The folder (or URL) of a build.")] = None,
    param: Annotated[
        list[str], typer.Option(metavar="FIELD=VALUE", help="A select field: select.min_clip_simple=0.2. Repeatable.")
    ] = [],  # noqa: B006
    out: Annotated[str | None, typer.Option(metavar="FILE.parquet", help="Write the selection here.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print; --out is checked, not written.")] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Compare two builds or selection files: what came and went, and why.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Rows of a --diff to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with every row.")] = False,
) -> None:
    """Select again from a build's scores with other thresholds, in seconds; the build itself does not change.

    **Examples**

    - What a stricter rule would keep: `surd select data/demo --param select.false_match_rate_complex=0.001`

    - One of each set of similar images: `surd select data/demo --param select.max_similarity=0.95 --out b.parquet`

    - What that changed, and why: `surd select --diff data/demo b.parquet`

    - With a filter of your own, of an installed package (docs/api.md): `surd select data/demo
      --param select.filters=[no_monochrome]`

    To apply the new thresholds to the shards: `surd build` with the same --param.
    """
    from surd.flows.cli import selection_tables
    from surd.flows.request import parse_params
    from surd.pipeline.selection import compare as selection

    if diff:
        if build or param or out:
            raise SurdError("--diff takes only its two selections; remove BUILD, --param and --out")
        compared = selection.diff(*diff)
        if as_json:
            print(json_line(selection_tables.diff_to_json(compared)))
        else:
            selection_tables.print_diff(PlainConsole(), compared, limit)
        return
    if not build:
        raise SurdError("BUILD is missing; give a build's folder, or compare two selections: surd select --diff A B")
    if out:
        selection.check_target(out, build)
    with selection.reselect(build, parse_params(param)) as chosen:
        if out and not dry_run:
            selection.write_selection(chosen, out, overwrite)
        summary = selection.summarize_selection(chosen, build, None if dry_run else out)
    if as_json:
        print(json_line(selection_tables.summary_to_json(summary)))
    else:
        selection_tables.print_selection(PlainConsole(), summary)


@app.command()
def report(
    build: BuildFolder,
    param: Annotated[
        list[str], typer.Option(metavar="FIELD=VALUE", help="A report field: report.samples=1000. Repeatable.")
    ] = [],  # noqa: B006
) -> None:
    """Make the report of a build again, and nothing else; with other fields of `report`, this once."""
    from surd.flows.request import parse_params
    from surd.pipeline.build.lock import exclusive
    from surd.pipeline.build.open import open_build, recorded_config
    from surd.pipeline.runner.process_setup import set_up_process
    from surd.pipeline.runner.run_unit import run_unit
    from surd.pipeline.stages import BY_NAME
    from surd.schemas import load_config

    set_up_process()
    opened, record = open_build(build)
    config = recorded_config(opened, record)
    if fields := parse_params(param):
        if other := [name for name in fields if name.partition(".")[0] != "report"]:
            raise SurdError(f"--param is {other[0]!r}: surd report takes fields of report; for others use surd build")
        config = load_config(config.model_dump(mode="json"), fields)
    with exclusive(opened):
        opened.remove_marker("report", 0)
        run_unit(BY_NAME["report"], 0, build, config)
    print(printable(opened.path("report.html")))


@app.command()
def inspect(
    build: BuildFolder,
    key: Annotated[str, typer.Argument(help="A record's key, the beginning of one, its URL, its page's, or its id.")],
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write its picture here, as fetched.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --image.")] = False,
) -> None:
    """Show one record, kept or rejected: each stage's row, its verdict, and the files that hold its bytes."""
    from surd.flows.cli.console import print_record
    from surd.pipeline.build.open import open_build
    from surd.pipeline.inspection.lookup import lookup, write_image

    opened = open_build(build)[0]
    record = lookup(opened, key)
    decided = decide_cli.decisions_about(opened, record["key"])
    if image:
        write_image(opened, record, image, overwrite=overwrite)
    if as_json:
        print(json_line(record | ({"decided_by_hand": decided} if decided else {})))
        return
    print_record(PlainConsole(), record)
    decide_cli.print_decisions(PlainConsole(), decided)


@app.command()
def models(profile: Profile = "demo") -> None:
    """Show what each model role resolves to on this machine, whether it is present, and its size."""
    from surd.flows.model_table import model_lines
    from surd.flows.request import resolve_config

    table = Table("role", "present", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("resolves to", overflow="fold")
    for line in model_lines(resolve_config(profile).models):
        size = f"{line.size / 1e6:.1f} MB" if line.size else "-"
        table.add_row(line.role, "yes" if line.present else "no", size, line.ref, line.resolved)
    PlainConsole().print(table)


@app.command()
def schema(out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("json-schemas")) -> None:
    """Write the JSON Schema of every record, document and config, one file each."""
    from surd.schemas.json_schema import write_json_schemas

    try:
        paths = write_json_schemas(out)
    except OSError as error:
        raise SurdError(f"--out is {str(out)!r}: it cannot be written ({error.strerror}); use another folder") from None
    for path in paths:
        print(printable(str(path)))


app.command()(view_cli.view)
app.command()(config_cli.config)
app.add_typer(columns_cli.app, name="columns")
app.command()(dataset_cli.verify)
app.command()(decide_cli.decide)
app.command()(decide_cli.review)
app.command()(forget_cli.forget)
app.command()(dataset_cli.export)
app.command()(publish_cli.publish)
app.command("import")(dataset_cli.import_)
app.command()(facts_cli.facts)


def main() -> None:
    """Entry point of ``surd``: a user error ends with one sentence and exit code 2."""
    # A plain SIGTERM would skip Python's exit hooks, and Prefect's temporary server would be left running.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    set_up_terminal()
    try:
        app()
    except NothingKept as nothing:
        print(printable(str(nothing), lines=True), file=sys.stderr)
        sys.exit(1)
    except SurdError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(
            f"error: writing failed ({error.strerror}); free disk space, then run the same command again",
            file=sys.stderr,
        )
        sys.exit(2)


def _parameters(config_file: Path | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the command line over those of its config file."""
    from surd.schemas import read_profile
    from surd.schemas.config.load import overlay

    return overlay(read_profile(config_file) if config_file else {}, fields)


def _forecast(
    profile: str | None,
    out: str | None,
    config_file: Path | None,
    fields: dict[str, Any],
    overwrite: bool,
    *,
    refresh: bool,
    as_json: bool,
) -> None:
    """Show what ``_build`` would do. Raises SurdError, after that, where models are missing."""
    from surd.flows.build_request import request_build
    from surd.flows.cli.dry_run import forecast_to_json, print_forecast
    from surd.flows.forecast import forecast
    from surd.pipeline.runner.model_check import joined_faults

    parameters = _parameters(config_file, fields)
    request = request_build(out=out, profile=profile, parameters=parameters, overwrite=overwrite)
    found = forecast(replace(request, refresh=refresh))
    if as_json:
        print(json_line(forecast_to_json(found)))
    else:
        print_forecast(PlainConsole(), found)
    if found.missing:
        raise joined_faults(found.missing)


def _build(
    profile: str | None,
    out: str | None,
    config_file: Path | None,
    fields: dict[str, Any],
    overwrite: bool,
    *,
    refresh: bool = False,
) -> dict[str, Any]:
    """Build with a progress bar; prints the summary and returns it."""
    from surd.flows.build_request import request_build
    from surd.flows.cli.console import Terminal, print_summary
    from surd.flows.run_in_process import run_build
    from surd.pipeline.models import demo_only_roles, role_names

    parameters = _parameters(config_file, fields)
    request = request_build(out=out, profile=profile, parameters=parameters, overwrite=overwrite)
    if request.remembered:
        shown = ", ".join(f"{name}={json_line(value)}" for name, value in request.remembered.items())
        print(printable(f"note: {request.out} remembers {shown}; --overwrite forgets it"), file=sys.stderr)
    config = request.config
    console = PlainConsole()
    terminal = Terminal(console)
    try:
        summary = run_build(replace(request, refresh=refresh), terminal)
    finally:
        terminal.close()
    if roles := demo_only_roles(config):
        names = role_names(roles)
        print(
            f"note: {names}: made for the demo; what they say means nothing for images other than its emoji scenes;"
            " choose real models, for example with --profile small",
            file=sys.stderr,
        )
    print_summary(console, summary)
    return summary


if __name__ == "__main__":
    main()
