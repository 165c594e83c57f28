"""Turns a pydantic config into a typer command: every field a flag, its description the help."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import SurdError

C = TypeVar("C", bound=BaseModel)


def command(config: type[C], run: Callable[[C], None]) -> typer.Typer:
    """A one-command app whose flags are the fields of ``config``; ``run`` gets the validated config.

    The help shown above the flags is ``run``'s docstring, as Markdown.
    """

    def call(**values: Any) -> None:
        try:
            asked = config(**values)
        except ValidationError as error:
            first = error.errors()[0]
            flag = "--" + str(first["loc"][0]).replace("_", "-")
            raise SurdError(f"{flag}: {first['input']!r} is refused: {first['msg'].lower()}; correct it") from error
        run(asked)

    parameters = [_parameter(name, field) for name, field in config.model_fields.items()]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command()(call)
    return app


def run_app(app: typer.Typer) -> None:
    """Run ``app`` on the command line; a SurdError becomes one sentence on stderr and exit code 2."""
    try:
        app()
    except SurdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    names = f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag
    default = inspect.Parameter.empty if field.is_required() else field.default
    annotation: Any = Annotated[field.annotation, typer.Option(names, help=field.description)]  # type: ignore[name-defined]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
