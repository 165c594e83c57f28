"""Typer commands generated from pydantic configs: every field is a flag, its description the help."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from surd.schemas.errors import SurdError
from surd.schemas.printable import printable, set_up_terminal

C = TypeVar("C", bound=BaseModel)
HELP = ["--help", "-h"]
_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def typer_from_model(config: type[C], run: Callable[[C], None]) -> typer.Typer:
    """A one-command app whose flags are the fields of ``config``; ``run`` gets the validated config.

    Only the flags that were given reach ``config``, which has its own defaults. A field called ``config`` names a
    YAML file of further settings. A field with ``json_schema_extra={"argument": NAME}`` may also be given as an
    argument. The help shown above the flags is ``run``'s docstring, as Markdown.
    """
    from_file = "config" in config.model_fields
    arguments = {name: argument for name, field in config.model_fields.items() if (argument := _argument(field))}

    def call(context: typer.Context, **values: Any) -> None:
        flags = {
            name: value
            for name, value in values.items()
            if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
        }
        for name in arguments:
            if (given := flags.pop(f"{name}_argument", None)) is None:
                continue
            if name in flags:
                flag = "--" + name.replace("_", "-")
                raise SurdError(f"{flag}: is {flags[name]!r} beside the argument {given!r}; give one of them")
            flags[name] = given
        if from_file and (file := flags.get("config")):
            flags = _settings(file, config) | flags
        try:
            validated = config(**flags)
        except ValidationError as error:
            first = error.errors()[0]
            flag = "--" + str(first["loc"][0]).replace("_", "-")
            if first["type"] == "missing":
                raise SurdError(f"{flag}: is missing; give it, see --help") from error
            raise SurdError(f"{flag}: {first['input']!r} is not valid: {first['msg'].lower()}; correct it") from error
        run(validated)

    parameters = [_CONTEXT]
    for name, metavar in arguments.items():
        annotation: Any = Annotated[str | None, typer.Argument(metavar=metavar, help=f"As --{name.replace('_', '-')}.")]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(f"{name}_argument", kind, default=None, annotation=annotation))
    parameters += [
        _parameter(name, field, from_file or name in arguments) for name, field in config.model_fields.items()
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    app = typer.Typer(
        pretty_exceptions_enable=False, rich_markup_mode="markdown", context_settings={"help_option_names": HELP}
    )
    app.command()(call)
    return app


def run_app(app: typer.Typer) -> None:
    """Run ``app`` on the command line; a SurdError becomes one sentence on stderr and exit code 2."""
    set_up_terminal()
    try:
        app()
    except SurdError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


def _settings(file: Path, config: type[BaseModel]) -> dict[str, Any]:
    """The settings in a YAML file, by field; SurdError if it cannot be read or has an unknown setting."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SurdError(
            f"--config: {str(file)!r} cannot be read ({error.__class__.__name__}); give a YAML file"
        ) from error
    if not isinstance(values, dict):
        raise SurdError(f"--config: {str(file)!r} is not a mapping of settings; write lines such as 'steps: 500'")
    settings = {str(name).replace("-", "_"): value for name, value in values.items()}
    for name in settings.keys() - config.model_fields.keys():
        near = difflib.get_close_matches(name, config.model_fields, n=1)
        remedy = f"write {near[0]!r}" if near else "see --help"
        raise SurdError(f"--config: {str(file)!r} sets {name!r}, which is not a setting; {remedy}")
    return settings


def _argument(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    return str(extra["argument"]) if isinstance(extra, dict) and "argument" in extra else None


def _parameter(name: str, field: FieldInfo, elsewhere: bool) -> inspect.Parameter:
    """The flag of a field. It is not required if the field may be given elsewhere: in a file, or as an argument."""
    flag = "--" + name.replace("_", "-")
    names = f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag
    default = inspect.Parameter.empty if field.is_required() else field.default
    kind: Any = field.annotation
    if field.is_required() and elsewhere:
        kind, default = kind | None, None
    annotation: Any = Annotated[kind, typer.Option(names, help=field.description)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
