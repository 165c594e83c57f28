"""Keyword classes of a prompt, by word lists: subject, style and quality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

WORDS_FILE = Path(__file__).with_name("words.yaml")
Class = Literal["subject", "style", "quality"]
_JOINTS = re.compile(r"[\s_\-–—/]+")
_SMALL = frozenset(("a", "an", "the", "in", "on", "of", "with", "at", "under", "and"))
_EDGES = " \t.,!?\"'*~()[]:"


@dataclass(frozen=True, kw_only=True)
class Split:
    """The keywords of a prompt in three lists, each in the prompt's order."""

    subjects: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    qualities: list[str] = field(default_factory=list)


class PromptWords:
    """The word lists of ``words.yaml``, which classify one keyword at a time."""

    def __init__(self, file: Path = WORDS_FILE) -> None:
        lists = yaml.safe_load(file.read_text(encoding="utf-8"))
        self._phrases: dict[str, Class] = {
            _plain(phrase): kind for kind in ("style", "quality") for phrase in lists[kind]["phrases"]
        }
        self._quality, self._style = frozenset(lists["quality"]["words"]), frozenset(lists["style"]["words"])
        self._fillers = frozenset(lists["fillers"])
        self._endings = tuple(" " + ending for ending in lists["style_endings"])
        beginnings, places = "|".join(lists["artist_beginnings"]), "|".join(lists["places"])
        self._artist = re.compile(rf"(?:{beginnings}) (?!(?:{places})\b)")

    def classify(self, keyword: str) -> Class:
        """The class of one keyword; ``subject`` if in doubt."""
        plain = _plain(keyword)
        if listed := self._phrases.get(plain):
            return listed
        words = plain.split()
        if all(word in self._quality or word in self._style or word in self._fillers for word in words):
            if any(word in self._style for word in words):
                return "style"
            if any(word in self._quality for word in words):
                return "quality"
        if plain.endswith(self._endings) and len(words) <= 4 and not _SMALL.intersection(words[1:]):
            return "style"
        if self._artist.match(plain):
            return "style"
        return "subject"

    def split(self, keywords: Sequence[str]) -> Split:
        """Keywords by class. Those without a letter mean nothing and are left out."""
        split = Split()
        lists = {"subject": split.subjects, "style": split.styles, "quality": split.qualities}
        for keyword in keywords:
            if any(char.isalpha() for char in keyword):
                lists[self.classify(keyword)].append(keyword)
        return split


@cache
def prompt_words() -> PromptWords:
    """The shipped list, read once."""
    return PromptWords()


def _plain(keyword: str) -> str:
    return _JOINTS.sub(" ", keyword.lower().replace("’", "'")).strip(_EDGES)
