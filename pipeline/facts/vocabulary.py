"""Closed classes of English words that the reading of sentences rests on, from ``vocabulary.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

VOCABULARY_FILE = Path(__file__).with_name("vocabulary.yaml")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The lists of the file, for lookups of words in lower case."""

    aspects: dict[str, str]
    numbers: dict[str, int]
    pictures: frozenset[str]
    mediums: frozenset[str]
    styles: frozenset[str]
    manners: frozenset[str]
    stylish: frozenset[str]
    making: frozenset[str]
    showing: frozenset[str]
    places: frozenset[str]
    grounds: frozenset[str]
    collectives: frozenset[str]
    kinds: frozenset[str]
    quantities: frozenset[str]
    seeing: frozenset[str]
    postures: frozenset[str]
    parts: frozenset[str]
    people: frozenset[str]
    pronouns: frozenset[str]
    nobody: frozenset[str]
    amounts: frozenset[str]
    empty: frozenset[str]
    unseen: frozenset[str]
    worn: frozenset[str]
    deeds: frozenset[str]
    where: frozenset[str]


@cache
def vocabulary() -> Vocabulary:
    """The shipped lists, read once."""
    lists = yaml.safe_load(VOCABULARY_FILE.read_text(encoding="utf-8"))
    aspects = {word: aspect for aspect, words in lists.pop("aspects").items() for word in words}
    numbers = lists.pop("numbers")
    return Vocabulary(aspects=aspects, numbers=numbers, **{name: frozenset(words) for name, words in lists.items()})
