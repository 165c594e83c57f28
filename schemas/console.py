"""The one console of all commands: every string is printed as it is, since most come from files and from the web."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from surd.schemas.printable import printable


class PlainConsole(Console):
    """A rich console to which a string is text: no markup (``[bold]``), no emoji codes (``:fox:``), no control
    characters, in a line as in the cells of a table. Style is given by ``rich.text.Text`` or by the table."""

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's text; rich calls it for whatever it prints."""
        return super().render_str(printable(text, lines=True), **options)
