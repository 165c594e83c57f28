"""Every field of a config as a row: its dotted name, what it may be, its default, and what it means."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from surd.schemas.config.build import BuildConfig


@dataclass(frozen=True, kw_only=True)
class ConfigField:
    """One field. ``kind``: what it may be, as text; ``default``: its JSON."""

    name: str
    kind: str
    default: str
    meaning: str

    @property
    def section(self) -> str:
        """The section that the field is in; empty for those of no section."""
        return self.name.rpartition(".")[0]


def config_fields(section: type[BaseModel] = BuildConfig, values: BaseModel | None = None) -> Iterator[ConfigField]:
    """All fields of a config, section by section in their order; ``values``: a config to show in place of defaults."""
    yield from _fields(section, values or section(), "")


def section_meanings() -> dict[str, str]:
    """Section -> its first line of documentation."""
    annotations = {name: field.annotation for name, field in BuildConfig.model_fields.items()}
    return {
        name: " ".join((kind.__doc__ or "").split())
        for name, kind in annotations.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


def _fields(section: type[BaseModel], values: BaseModel, prefix: str) -> Iterator[ConfigField]:
    nested = []
    for name, field in section.model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            nested.append((name, value))
        elif name != "schema_version":
            shown = json.dumps(values.model_dump(mode="json")[name], ensure_ascii=False)
            kind = f"{_kind(field.annotation)}{_bounds(field)}"
            yield ConfigField(name=prefix + name, kind=kind, default=shown, meaning=field.description or "")
    for name, value in nested:
        yield from _fields(type(value), value, f"{prefix}{name}.")


def _kind(annotation: Any) -> str:
    """A type as a reader writes it: ``int or null``, ``"mean", "last"``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments)
    if origin is Literal:
        return ", ".join(json.dumps(one) for one in arguments)
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of {_kind(arguments[0])} to {_kind(arguments[1])}"
    names = {str: "text", int: "int", float: "number", bool: "true or false", type(None): "null"}
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return f", {', '.join(bounds)}" if bounds else ""
