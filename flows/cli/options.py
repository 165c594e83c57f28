"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

BuildFolder = Annotated[str, typer.Argument(metavar="BUILD", help="The folder (or URL) of a build.")]
