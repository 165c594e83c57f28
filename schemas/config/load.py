"""Reads YAML profiles and overrides by name as a config; a mistake becomes one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from surd.schemas.config import BuildConfig
from surd.schemas.errors import SurdError


def load_config(profile: dict[str, Any], overrides: dict[str, Any] | None = None) -> BuildConfig:
    """A profile's values with overrides laid over them; override keys may be dotted (``fetch.retries``).

    Raises SurdError naming the field, the value and the nearest right name.
    """
    try:
        return BuildConfig.model_validate(overlay(profile, overrides or {}))
    except ValidationError as error:
        raise SurdError(explain(error)) from None


def overlay(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Values with overrides laid over them, section by section; override keys may be dotted."""
    for dotted, value in overrides.items():
        values = _overlay(values, dotted.split("."), value)
    return values


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"fetch": {"retries": 1}}`` -> ``{"fetch.retries": 1}``."""
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            dotted |= flat(value, f"{prefix}{name}.")
        else:
            dotted[f"{prefix}{name}"] = value
    return dotted


def read_profile(path: Path) -> dict[str, Any]:
    """A YAML profile as a mapping. Raises SurdError if it is missing or not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SurdError(
            f"profile {str(path)!r} cannot be read ({error.__class__.__name__}); give a YAML file"
        ) from None
    except yaml.YAMLError as error:
        raise SurdError(f"profile {str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SurdError(f"profile {str(path)!r} holds {type(values).__name__}, not a mapping of config fields")
    return values


def explain(error: ValidationError) -> str:
    """The first fault of a config as one sentence: field, value, what to do."""
    fault = error.errors()[0]
    names = [str(part) for part in fault["loc"]]
    field = ".".join(names)
    if fault["type"] == "extra_forbidden":
        known = _fields_at(names[:-1])
        near = difflib.get_close_matches(names[-1], known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the fields here are: {', '.join(known)}"
        return f"config field {field!r} does not exist; {remedy}"
    why = fault["msg"].removeprefix("Value error, ")
    return f"config field {field!r} is {fault['input']!r}: {why[:1].lower()}{why[1:]}"


def _fields_at(names: list[str]) -> list[str]:
    section: type[BaseModel] = BuildConfig
    for name in names:
        annotation = section.model_fields[name].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)


def _overlay(values: Any, names: list[str], value: Any) -> dict[str, Any]:
    base = dict(values) if isinstance(values, dict) else {}
    if len(names) > 1:
        base[names[0]] = _overlay(base.get(names[0]), names[1:], value)
    elif isinstance(value, dict) and isinstance(base.get(names[0]), dict):
        for inner, inner_value in value.items():
            base[names[0]] = _overlay(base[names[0]], [inner], inner_value)
    else:
        base[names[0]] = value
    return base
