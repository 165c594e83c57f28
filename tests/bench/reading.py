"""Reader of plain English sentences: the facts of the demo world that they assert."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.fact_words import (
    ACTION,
    BACKGROUND_NOUNS,
    COLLECTIVE,
    COLOURS,
    DOER,
    MANY,
    NOUN,
    NUMBER,
    PERSON,
    RELATION,
    SHADES,
    STYLE,
    THINGS,
)

GROUPS = ("subject", "count", "tint", "background", "action", "relation", "style")
_TOKEN = re.compile(r"\d+(?:k|d|st|nd|rd|th|px|bit)\b|\d+|[a-z]+|[.,;:!?]")
#: Words that end the search for a noun's number and colours.
_STOP_WORDS = (
    "of",
    "on",
    "in",
    "with",
    "the",
    "and",
    "or",
    "by",
    "at",
    "to",
    "is",
    "are",
    "against",
    "front",
    "showing",
)
_STOP = {*".,;:!?", *_STOP_WORDS}
_SHADE = (
    "plain",
    "solid",
    "simple",
    "bright",
    "flat",
    "clean",
    "dark",
    "light",
    "pure",
    "uniform",
    "vivid",
    "soft",
    "deep",
)
_GROUND_FILLER = {*_SHADE, "pale", "colored", "coloured", "color", "colour"}
_GROUND_LINK = {"is", "of", "in", "was", "the", "a", "an", "that", "s", "being", "has", *_GROUND_FILLER}
#: How many tokens left of its noun a number or colour may be.
_REACH = 5


@dataclass(frozen=True)
class Fact:
    """One thing a sentence asserts. `about` is the noun of a count or tint, and (first, second) of a relation."""

    group: str
    value: Any
    about: Any = None


@dataclass
class _Reading:
    """A sentence while it is read: its tokens, the facts found, and which tokens are used up."""

    tokens: list[str]
    facts: list[Fact] = field(default_factory=list)
    mentions: list[tuple[int, int, str]] = field(default_factory=list)  # start, end, subject
    taken: set[int] = field(default_factory=set)


def read_facts(sentence: str) -> list[Fact]:
    """Every fact that the sentence asserts, each once, in a fixed order of groups; only in the demo's words."""
    reading = _Reading(_TOKEN.findall(_plain(sentence)))
    _read_phrases(reading, STYLE, "style")
    _read_phrases(reading, ACTION, "action")
    _read_backgrounds(reading)
    _read_things(reading)
    _read_relations(reading)
    return sorted(dict.fromkeys(reading.facts), key=lambda fact: GROUPS.index(fact.group))


def _plain(sentence: str) -> str:
    return re.sub(r"\b(8|16)[- ]?bit\b", r"\1bit", re.sub("[-_]", " ", sentence.lower()))


def _read_phrases(reading: _Reading, phrases: Mapping[str, str], group: str) -> None:
    """Take the longest phrases first, so that "comic book" does not count as a book."""
    for at, length, value in _matches(reading, phrases):
        doer = " ".join(reading.tokens[at : at + length])
        reading.facts.append(Fact(group, value))
        if doer not in DOER:  # the doer is also a noun to be counted
            reading.taken.update(range(at, at + length))


def _matches(reading: _Reading, phrases: Iterable[str] | Mapping[str, Any]) -> Iterator[tuple[int, int, Any]]:
    """(start, length, value) of every phrase among the tokens not yet taken, longest first at each place."""
    longest = max(len(phrase.split()) for phrase in phrases)
    at = 0
    while at < len(reading.tokens):
        for length in range(min(longest, len(reading.tokens) - at), 0, -1):
            phrase = " ".join(token for token in reading.tokens[at : at + length] if token != ",")
            whole = reading.tokens[at] != "," != reading.tokens[at + length - 1]
            if whole and phrase in phrases and reading.taken.isdisjoint(range(at, at + length)):
                yield at, length, phrases[phrase] if isinstance(phrases, Mapping) else phrase
                at += length
                break
        else:
            at += 1


def _read_backgrounds(reading: _Reading) -> None:
    tokens = reading.tokens
    for at, token in enumerate(tokens):
        if token not in BACKGROUND_NOUNS:
            continue
        reading.taken.add(at)
        if not _ground_colours(reading, range(at - 1, -1, -1), {*_GROUND_FILLER, "and"}):
            _ground_colours(reading, range(at + 1, len(tokens)), {*_GROUND_LINK, "and"})
    for at, token in enumerate(tokens):  # "on red", "against a plain blue"
        if token in ("on", "against") and at not in reading.taken:
            end = at + 1
            while end < len(tokens) and tokens[end] in {"a", "an", *_GROUND_FILLER}:
                end += 1
            last = end + 1 == len(tokens) or (end + 1 < len(tokens) and tokens[end + 1] in ".,;!?")
            if end < len(tokens) and tokens[end] in COLOURS and end not in reading.taken and last:
                _ground_colours(reading, range(end, end + 1), set())


def _ground_colours(reading: _Reading, places: Iterable[int], skipped: set[str]) -> bool:
    """Take successive colours next to a background's noun; whether there was one."""
    any_colour = False
    for at in places:
        token = reading.tokens[at]
        if token in COLOURS and at not in reading.taken:
            reading.facts.append(Fact("background", SHADES.get(token, token)))
            reading.taken.add(at)
            any_colour = True
        elif token not in skipped:
            break
    return any_colour


def _read_things(reading: _Reading) -> None:
    """Nouns, with the number and the colours before them."""
    nouns = {**NOUN, **dict.fromkeys(THINGS, ("things", True))}
    for at, length, (subject, several) in _matches(reading, nouns):
        if reading.tokens[at + length : at + length + 1] == ["shaped"]:
            continue
        number, colours, word = _before(reading, at)
        if number == 0:  # "no humans", "without a cat"
            continue
        if reading.tokens[at + length : at + length + 1] == ["x"] and reading.tokens[at + length + 1 : at + length + 2]:
            number = _number(reading.tokens[at + length + 1]) or number
        if several and number == 1 and word != "one":
            number = MANY  # "a few cats"
        if number is None and several:
            number = MANY
        if number is None and reading.tokens[at] in ("someone", "somebody"):
            number = 1
        if number is not None:
            reading.facts.append(Fact("count", number, subject))
        if subject == "things":
            continue
        reading.mentions.append((at, at + length, subject))
        reading.facts.append(Fact("subject", subject))
        if subject != PERSON:
            reading.facts.extend(Fact("tint", SHADES.get(colour, colour), subject) for colour in colours)


def _before(reading: _Reading, at: int) -> tuple[int | str | None, list[str], str | None]:
    """(number, colours, the number's word) before the noun at `at`."""
    colours: list[str] = []
    for place in range(at - 1, max(-1, at - 1 - _REACH), -1):
        token = reading.tokens[place]
        if place in reading.taken and (token in COLOURS or token in BACKGROUND_NOUNS):
            return None, colours, None
        if place in reading.taken or reading.tokens[place + 1] == "shaped":
            continue  # "an 8-bit rocket", "a heart-shaped balloon"
        if token in COLOURS:
            colours.append(token)
        elif token == "of" and place and reading.tokens[place - 1] in COLLECTIVE:
            return NUMBER[reading.tokens[place - 1]], colours, reading.tokens[place - 1]
        elif token == "and" and colours and reading.tokens[place - 1] in COLOURS:
            continue
        elif (number := _number(token)) is not None:
            return _with_article(reading, place, number), colours, token
        elif token in _STOP or token in NOUN or token in THINGS:
            return None, colours, None
    return None, colours, None


def _with_article(reading: _Reading, place: int, number: int | str) -> int | str:
    """The number at `place`, unless it is negated."""
    return 0 if place and reading.tokens[place - 1] in ("no", "without", "not") else number


def _number(token: str) -> int | str | None:
    return int(token) if token.isdigit() else NUMBER.get(token)


def _read_relations(reading: _Reading) -> None:
    for at, length, relation in _matches(reading, RELATION):
        before = [subject for start, end, subject in reading.mentions if end <= at]
        after = [(start, subject) for start, _, subject in reading.mentions if start >= at + length]
        if not before or not after:
            continue
        place, second = after[0]
        # "over a blue background with a cat" does not place anything over a cat
        if not any(reading.tokens[i] in {*BACKGROUND_NOUNS, *".,;", "with"} for i in range(at + length, place)):
            reading.facts.append(Fact("relation", relation, (before[-1], second)))
