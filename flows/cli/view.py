"""``surd view``: every record of a build in the browser of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from surd.flows.cli.options import BuildFolder
from surd.schemas.printable import printable


def view(
    build: BuildFolder,
    beside: Annotated[
        str | None, typer.Option(metavar="BUILD", help="Another build, to see which records each of them keeps.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0: a free one.")] = 0,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser, where there is one.")
    ] = True,
) -> None:
    """Look through every record of a build, finished or in the making, and decide by hand. Ends with Ctrl-C.

    The page is served on 127.0.0.1 alone, below a path that nobody can guess, and requests nothing from elsewhere.
    Decisions go into `decisions.jsonl` in the build, which later runs of `surd build` and `surd select` obey.

    **Examples**

    - A build: `surd view data/web`

    - Beside an earlier one: `surd view data/web --beside data/web-before`

    - On another machine: `surd view data/web --port 8700 --no-open` there, `ssh -L 8700:127.0.0.1:8700 THERE` here, and
      the address that it printed in the browser
    """
    from surd.pipeline.view.serve import serve

    def ready(address: str) -> None:
        print(printable(f"{build}: {address}"), flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(address)

    serve(build, beside, port, ready)
