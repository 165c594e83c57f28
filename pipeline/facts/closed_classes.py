"""Closed classes of English that editing rests on, from ``closed_classes.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

CLOSED_CLASSES_FILE = Path(__file__).with_name("closed_classes.yaml")

_LISTS = (
    "mass",
    "broad",
    "plural_only",
    "postnominal",
    "together",
    "needy",
    "light",
    "places",
    "vague",
    "picture_nouns",
    "style_leads",
)


@dataclass(frozen=True, kw_only=True)
class ClosedClasses:
    """The lists of the file, for lookups of words in lower case."""

    values: dict[str, tuple[tuple[str, ...], ...]]
    opposites: dict[str, list[str]]
    relations: dict[str, list[str]]
    styles: list[str]
    places: frozenset[str]
    broader: dict[str, frozenset[str]]
    genders: dict[str, str]
    mass: frozenset[str]
    plural_only: frozenset[str]
    ranks: dict[str, int]
    postnominal: frozenset[str]
    broad: frozenset[str]
    together: frozenset[str]
    needy: frozenset[str]
    light: frozenset[str]
    vague: frozenset[str]
    picture_nouns: frozenset[str]
    style_leads: frozenset[str]
    singulars: dict[str, str]
    gerund_bases: dict[str, str]
    stems_with_e: frozenset[str]
    doubling: frozenset[str]
    irregular: dict[str, tuple[str, str]]


def _forms(value: object) -> tuple[str, ...]:
    return tuple(form.strip() for form in str(value).split("|"))


@cache
def closed_classes() -> ClosedClasses:
    """The shipped lists, read once."""
    lists = yaml.safe_load(CLOSED_CLASSES_FILE.read_text(encoding="utf-8"))
    opposites: dict[str, list[str]] = {}
    for first, second in lists["opposites"]:
        opposites.setdefault(first, []).append(second)
        opposites.setdefault(second, []).append(first)
    return ClosedClasses(
        values={name: tuple(map(_forms, values)) for name, values in lists["values"].items()},
        opposites=opposites,
        relations=lists["relations"],
        styles=lists["styles"],
        broader={word: frozenset(wide) for word, wide in lists["broader"].items()},
        genders={word: gender for gender, words in lists["genders"].items() for word in words},
        ranks={word: rank for rank, words in enumerate(lists["order"].values()) for word in words},
        singulars={many: one for one, many in lists["plurals"].items()},
        gerund_bases=lists["gerund_bases"],
        irregular={verb: (forms.split()[0], forms.split()[-1]) for verb, forms in lists["irregular"].items()},
        **{name: frozenset(lists[name].split()) for name in ("stems_with_e", "doubling")},
        **{name: frozenset(lists[name]) for name in _LISTS},
    )
