"""Words for the facts of the demo world: those of its own prompts, more for training, and others kept for testing.

``words.yaml`` lists the further words of each value without saying which is which. Of each value's phrases a fifth, but
at least two and at most four, is drawn for testing by ``random.Random("words:" + value)``. Not drawn is what shares a
lemma with the keyword prompts, with a structure of training sentences, or with more than two other phrases ("flightless
bird", "nocturnal bird", ...). A phrase that shares a lemma with one that is drawn is left out; all others are for
training. So no lemma of a test word occurs in a training sentence or in a keyword prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import yaml

from surd.pipeline.demo.world.prompts import (
    ACTION_TAGS,
    FILLER,
    NUMBERS,
    QUALITY,
    RELATION_WORDS,
    STYLE_PHRASES,
    STYLE_TAGS,
)
from surd.pipeline.demo.world.scenes import ACTIONS, BACKGROUNDS, RELATIONS, STYLES, SUBJECTS, TINTABLE

Kind = Literal["subjects", "colours", "counts", "actions", "relations", "styles"]
Which = Literal["known", "training", "test"]
KINDS: tuple[Kind, ...] = ("subjects", "colours", "counts", "actions", "relations", "styles")
#: What of ``wordings.yaml`` is for training sentences.
TRAINING_USES = ("plain", "training", "long")
#: Words that state no fact wherever they stand.
_GLUE = """
a an the of in on at with by to from as if it its is be been being that this and or up down for like into out picture
image coloured color colour thing made done set person people someone while who along side hand scene doing taking
having playing performing going
"""
GLUE = frozenset(_GLUE.split())
#: Lemmas that hold others by chance ("star").
APART = frozenset(("starboard", "west"))
_SHORT = tuple(name for name in SUBJECTS | TINTABLE if len(name) == 3)
#: A phrase with more relatives than this is never for testing: its relatives would be lost for training.
MOST_RELATIVES = 2
#: How a picture in a style is called in the words of the keyword prompts.
KNOWN_PICTURES = {
    "sketch": "pencil sketch", "sepia": "old sepia photograph", "neon": "glowing neon sign",
    "pixel art": "pixelated picture", "blur": "blurred picture", "comic": "comic book picture",
    "scanlines": "old television picture",
}  # fmt: skip


class _Entry(NamedTuple):
    kind: Kind
    value: str
    phrase: str


@dataclass(frozen=True)
class FactWords:
    """Phrases for every value of every kind, the world's own first where it has them; `people` are nouns for a person
    and `pictures` nouns for a picture without a style, singular and plural as in ``words.yaml``."""

    words: Mapping[Kind, Mapping[str, tuple[str, ...]]]
    people: tuple[str, ...]
    pictures: tuple[str, ...]

    def choice(self, kind: Kind, value: object, rng: random.Random, own: float = 0.0) -> str:
        """A phrase for a value; with the probability `own` the first."""
        phrases = self.words[kind][str(value)]
        return phrases[0] if rng.random() < own else rng.choice(phrases)


@lru_cache(maxsize=1)
def wordings() -> dict[str, dict[str, list[str]]]:
    """``wordings.yaml``: where used -> kind of scene, or part of a long text -> structures."""
    return _read("wordings.yaml")


@lru_cache(maxsize=1)
def riddles() -> dict[str, dict[str, str]]:
    """``riddles.yaml``: subjects or actions -> name -> what it says of itself."""
    return _read("riddles.yaml")


def _read(name: str) -> Any:
    return yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, tuple[str, ...]]]:
    """``words.yaml``: kind -> value -> phrases, the world's own words left out."""
    read = _read("words.yaml")
    return {
        kind: {str(value): tuple(dict.fromkeys(phrases)) for value, phrases in read[kind].items()} for kind in KINDS
    } | {"more": {name: tuple(read[name]) for name in ("people", "pictures")}}


@lru_cache(maxsize=3)
def lexicon(which: Which) -> FactWords:
    """The words of the keyword prompts and plain sentences alone, those for training (these among them), or those for
    testing alone."""
    known, (testing, training) = _known(), _draw()
    if which == "known":
        return FactWords(known, ("person/people",), ("picture",))
    if which == "test":
        return FactWords(_among(testing), ("person/people",), ("picture",))
    further = _among(training)
    words: dict[Kind, dict[str, tuple[str, ...]]] = {
        kind: {value: tuple(dict.fromkeys((*own, *further[kind][value]))) for value, own in known[kind].items()}
        for kind in KINDS
    }
    more = table()["more"]
    return FactWords(words, more["people"], more["pictures"])


def _known() -> dict[Kind, dict[str, tuple[str, ...]]]:
    nouns = SUBJECTS | TINTABLE
    return {
        "subjects": {one: (f"{one}/{many}",) for one, (many, _) in nouns.items()},
        "colours": {colour: (colour,) for colour in BACKGROUNDS},
        "counts": {"1": ("a", "one", "a single")} | {str(n): (NUMBERS[n],) for n in (2, 3, 4, 5)},
        "actions": {action: (_braced(action),) for action in ACTIONS},
        "relations": {relation: RELATION_WORDS[relation] for relation in RELATIONS},
        "styles": {style: (f"@{KNOWN_PICTURES[style]}", *STYLE_PHRASES[style]) for style in STYLES if style != "none"},
    }


def _braced(action: str) -> str:
    """ "riding a horse" -> "riding {horse}", so that two people ride horses."""
    return re.sub(r"\ban? (\w+)", r"{\1}", action)


def held_out() -> dict[Kind, dict[str, tuple[str, ...]]]:
    """The phrases drawn for testing, in the order of ``words.yaml``."""
    drawn, _ = _draw()
    return _among(drawn)


def _among(chosen: Collection[_Entry]) -> dict[Kind, dict[str, tuple[str, ...]]]:
    return {
        kind: {
            value: tuple(phrase for phrase in phrases if (kind, value, phrase) in chosen)
            for value, phrases in table()[kind].items()
        }
        for kind in KINDS
    }


@lru_cache(maxsize=1)
def _draw() -> tuple[frozenset[_Entry], frozenset[_Entry]]:
    """What is for testing, and what is for training."""
    entries = [_Entry(kind, value, phrase) for kind in KINDS for value, of in table()[kind].items() for phrase in of]
    relatives = _relatives(entries)
    known = {word for text in keyword_texts() for word in content(text)}
    structural = {word for text in structure_texts() for word in content(text)}
    free = {
        entry
        for entry in entries
        if len(relatives[entry]) <= MOST_RELATIVES
        and (words := content(entry.phrase))
        and not any(word in structural or is_known(word, known) for word in words)
    }
    testing: set[_Entry] = set()
    left_out: set[_Entry] = set()
    for kind in KINDS:
        for value, phrases in table()[kind].items():
            wanted = min(4, max(2, round(len(phrases) / 5)))
            candidates = [entry for phrase in phrases if (entry := _Entry(kind, value, phrase)) in free]
            random.Random(f"words:{value}").shuffle(candidates)
            for entry in candidates:
                if wanted and entry not in left_out:
                    wanted -= 1
                    testing.add(entry)
                    left_out |= relatives[entry]
    return frozenset(testing), frozenset(entries) - testing - left_out


def _relatives(entries: list[_Entry]) -> dict[_Entry, set[_Entry]]:
    """Each phrase -> the others that share a lemma with it."""
    holders: dict[str, list[_Entry]] = {}
    for entry in entries:
        for word in set(content(entry.phrase)):
            holders.setdefault(word, []).append(entry)
    relatives: dict[_Entry, set[_Entry]] = {entry: set() for entry in entries}
    for one in holders:
        for other in holders:
            if related(one, other):
                for entry in holders[one]:
                    relatives[entry].update(holders[other])
    for entry, others in relatives.items():
        others.discard(entry)
    return relatives


def is_known(word: str, known: Iterable[str]) -> bool:
    """Whether a lemma is one of `known`, related to one, or begins or ends with a subject ("cat" and "tomcat")."""
    if word in APART:
        return False
    return any(related(word, other) for other in known) or word.startswith(_SHORT) or word.endswith(_SHORT)


def keyword_texts() -> Iterator[str]:
    """Every text that a keyword prompt or a plain sentence of ``prompts.py`` is made of."""
    for one, (many, _) in (SUBJECTS | TINTABLE).items():
        yield from (one, many)
    yield from (*BACKGROUNDS, *ACTIONS, *NUMBERS, *QUALITY, *FILLER, *STYLES)
    for tags in (ACTION_TAGS, STYLE_TAGS, STYLE_PHRASES, RELATION_WORDS):
        for texts in tags.values():
            yield from texts
    yield "simple plain solid background backdrop solo no humans two objects single someone something scene showing"
    yield "0 1 2 3 4 5 x1 x2 x3 x4 x5"


def structure_texts() -> Iterator[str]:
    """The text of every structure of training sentences, without its slots."""
    for use in TRAINING_USES:
        for texts in wordings()[use].values():
            yield from (re.sub(r"\{\w+\}", "", text) for text in texts)


def content(phrase: str) -> list[str]:
    """The lemmas of a phrase that can state a fact: all but GLUE."""
    return [lemma(word) for word in re.findall(r"[^\W_]+", phrase.lower()) if word not in GLUE]


@lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """A rough stem: "rowing", "rower" and "rows" are one, "row"; only for telling whether two words are related."""
    for ending in ("ings", "ing", "ers", "er", "ors", "or", "ies", "ied", "ed", "es", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def related(one: str, other: str) -> bool:
    """Whether two lemmas are the same, or one holds the other ("violet" and "ultraviolet")."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 4 and short in long and long not in APART)
