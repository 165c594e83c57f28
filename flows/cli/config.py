"""``surd config``: every field of a build's config, and its value in a profile."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from surd.schemas.console import PlainConsole
from surd.schemas.errors import SurdError
from surd.schemas.printable import json_line


def config(
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIELD]...", help="Sections or fields: fetch, fetch.retries."),
    ] = None,
    profile: Annotated[str, typer.Option(help="demo, small, paper, or a path to a YAML file.")] = "demo",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the fields of a build's config: what each may be, its value in a profile, and what it means.

    **Examples**

    - All of them: `surd config`

    - One section, as the profile small has it: `surd config fetch --profile small`

    - To set one: `surd build --param fetch.retries=5`, or `fetch: {retries: 5}` in the file of `--config`
    """
    from surd.flows.request import resolve_config
    from surd.schemas.config.reference import config_fields

    every = list(config_fields(values=resolve_config(profile)))
    shown = every
    if fields:
        for name in fields:
            if not any(f"{field.name}.".startswith(f"{name}.") for field in every):
                sections = ", ".join(sorted({field.section.partition(".")[0] for field in every} - {""}))
                raise SurdError(f"FIELD is {name!r}: no config field or section; the sections are {sections}")
        shown = [field for field in every if any(f"{field.name}.".startswith(f"{name}.") for name in fields)]
    if as_json:
        print(json_line({field.name: vars(field) for field in shown}))
        return
    table = Table("field", "value", "may be", "meaning", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for field in shown:
        table.add_row(Text(field.name), Text(field.default), Text(field.kind), Text(field.meaning))
    PlainConsole().print(table)
