"""Profiles and ``--param`` values: the checked config of a build, and its default folder."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from surd.schemas import BuildConfig, SurdError, load_config, read_profile
from surd.schemas.errors import one_line
from surd.schemas.paths import absolute

PROFILES = Path(__file__).parent / "profiles"


def find_profile(profile: str) -> Path:
    """The YAML file of a profile, given by name (``demo``) or by path (``my_profile.yaml``).

    Raises SurdError naming the nearest profile when a name is unknown.
    """
    if "/" in profile or profile.endswith((".yaml", ".yml")):
        return absolute(profile)
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if profile not in names:
        near = difflib.get_close_matches(profile, names, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}, or a path to a YAML file"
        raise SurdError(f"profile is {profile!r}: there is no profile of that name; {remedy}")
    return PROFILES / f"{profile}.yaml"


def resolve_config(profile: str, *overrides: dict[str, Any]) -> BuildConfig:
    """A profile with each mapping of overrides laid over it in turn; keys may be dotted. Raises SurdError."""
    values = read_profile(find_profile(profile))
    for layer in (*overrides, {}):
        config = load_config(values, layer)
        values = config.model_dump(exclude_unset=True)
    return config


def default_out(profile: str) -> str:
    """The folder of a build without ``--out``: ``data/`` and the profile's name."""
    return f"data/{find_profile(profile).stem}"


def parse_params(params: list[str]) -> dict[str, Any]:
    """``["fetch.retries=1", "embed.layers=[5, 20]"]`` as a mapping; values are YAML. Raises SurdError."""
    values: dict[str, Any] = {}
    for param in params:
        field, equals, text = param.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", field):
            raise SurdError(
                f"--param is {param!r}: it is not of the form field=value; write for example --param fetch.retries=1"
            )
        try:
            values[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            why = one_line(error, 1000)
            raise SurdError(
                f"--param {field} is {text!r}: it is not valid YAML ({why}); put the value in quotes"
            ) from None
    return values
