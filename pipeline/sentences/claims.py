"""Claims: what texts say of one picture, each fact once, and who says it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from surd.pipeline.facts.edits import counts_by_article
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence

_WORD = re.compile(r"[^\W_]+")
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
_WORDS = _NUMBER_WORDS.split(" ")
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS)} | {
    "a": "1", "an": "1", "single": "1", "pair": "2", "couple": "2", "dozen": "12",
}  # fmt: skip
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "leaves": "leaf", "knives": "knife", "wolves": "wolf", "shelves": "shelf",
    "backdrop": "background", "backdrops": "background",
}  # fmt: skip
_PREPOSITION = re.compile(r"\s(?:of|in|on|with|at|from|for)\s")
#: Nouns behind an article that count nothing.
_PLACES = frozenset(
    ("background", "backdrop", "foreground", "front", "side", "top", "bottom", "middle", "left", "right", "picture",
     "image", "photo", "photograph", "scene", "view", "style", "group", "pair", "couple", "lot", "bunch", "set")
)  # fmt: skip
#: What is said of them is added with them: "on a blue background".
GROUNDS = ("background",)
_LITTLE = frozenset(("of", "1", "a", "an", "the", "in", "as", "on", "to", "with", "by", "style", "picture", "image"))
_PAIRS = (
    ("left of", "right of"), ("to the left of", "to the right of"), ("on the left of", "on the right of"),
    ("above", "below"), ("over", "under"), ("on top of", "underneath"), ("in front of", "behind"),
)  # fmt: skip
#: What the second thing is to the first where the first is so to the second.
INVERSE = dict(_PAIRS) | {second: first for first, second in _PAIRS} | {"beneath": "on top of"} | {
    same: same for same in ("next to", "beside", "near", "by")
}  # fmt: skip
Key = tuple[str, str, str, str]


@dataclass
class FactClaim:
    """A fact that is said of picture ``picture``, in ``sentence``; ``rivals``: the sentence with another value of the
    fact, or without it; ``origin``: who states it (see ``PRIORS``); ``scores``: the log odds of each witness;
    ``implied``: it follows from an article, and is not said in so many words; ``person``: it is of somebody named."""

    picture: int
    fact: Fact
    sentence: str | None = None
    rivals: tuple[str, ...] = ()
    origin: str = "neither"
    scores: dict[str, float] = field(default_factory=dict)
    belief: float = 0.5
    implied: bool = False
    person: bool = False


def fact_key(fact: Fact) -> Key:
    """What tells facts apart: the same for other articles, cases and forms of the number."""
    return (fact.kind, head(fact.of), _stems(fact.value), head(fact.to or ""))


def slot(fact: Fact) -> tuple[str, ...]:
    """What a fact is about, whatever its value: facts of one slot exclude each other where a picture has one value."""
    if fact.kind == "relation":
        return (fact.kind, *sorted((head(fact.of), head(fact.to or ""))))
    return (fact.kind, head(fact.of), fact.aspect if fact.kind == "attribute" else "")


def exclusive(fact: Fact) -> bool:
    """Whether a picture has at most one value in the slot of this fact."""
    if fact.kind == "relation":
        return fact.value in INVERSE and head(fact.to or "") not in GROUNDS
    return fact.kind == "count" or (fact.kind == "attribute" and fact.aspect == "colour")


def agree(one: Fact, other: Fact) -> bool:
    """Whether two facts say the same, in whatever words: of the same thing, with a word of meaning in common."""
    if one.kind != other.kind or one.negated != other.negated:
        return False
    if one.kind == "entity":
        return head(one.of) == head(other.of)
    if one.kind == "count":
        return same_thing(one.of, other.of) and _meaning(one.value) == _meaning(other.value)
    if one.kind == "text":
        return bool(_meaning(one.value) & _meaning(other.value))
    if one.kind == "style":
        return bool(_meaning(one.value) & _meaning(other.value))
    if one.kind == "relation" and same_thing(one.of, other.to or "") and same_thing(other.of, one.to or ""):
        return bool(_meaning(INVERSE.get(one.value, "")) & _meaning(other.value))
    # What stands on a background says nothing: all that a picture shows does.
    of_same = same_thing(one.of, other.of) or (one.kind == "relation" and head(one.to or "") in GROUNDS)
    same = of_same and bool(_meaning(one.value) & _meaning(other.value))
    return same and (one.to is None or other.to is None or same_thing(one.to, other.to))


def same_thing(one: str, other: str) -> bool:
    """Whether two noun phrases have the same noun."""
    return head(one) == head(other)


def head(phrase: str) -> str:
    """The stem of the noun that a phrase is about: its last word before a preposition."""
    words = _WORD.findall(_PREPOSITION.split(phrase.casefold())[0])
    return _stem(words[-1]) if words else ""


def stated(sentence: Sentence) -> list[tuple[Fact, bool]]:
    """The facts of a sentence, each with whether it is only implied: "a cat" means one cat.

    What lies within the words of a style is no thing of its own: "art" in "pixel art".
    """
    styles = [(fact.start, fact.end) for fact in sentence.facts if fact.kind == "style" and fact.start >= 0]
    facts = [
        fact
        for fact in sentence.facts
        if fact.kind not in ("entity", "attribute")
        or not any(start <= fact.start and fact.end <= end for start, end in styles)
    ]
    explicit = {head(fact.of) for fact in facts if fact.kind == "count"}
    return [
        *((fact, False) for fact in facts),
        *((fact, True) for fact in counts_by_article(sentence) if head(fact.of) not in explicit | _PLACES),
    ]


def new_words(fact: Fact, text: str) -> bool:
    """Whether a fact has a word of meaning that a text has not: else the text states it, and was read otherwise."""
    said = {_stem(word) for word in _WORD.findall(text.casefold())}
    words = {head(fact.of)} if fact.kind == "entity" else set(_meaning(f"{fact.value} {head(fact.to or '')}"))
    return fact.kind == "count" or not words <= said


def in_words(fact: Fact) -> Fact:
    """A count as a sentence says it: "three" for the 3 of a prompt."""
    if fact.kind != "count" or not fact.value.isdecimal() or int(fact.value) >= len(_WORDS):
        return fact
    return dataclasses.replace(fact, value=_WORDS[int(fact.value)])


def topics(fact: Fact) -> set[str]:
    """What a fact speaks of, as words: the noun of a thing, or the words of a style."""
    return {head(fact.of)} if fact.kind == "entity" else set(_meaning(fact.value))


def is_named(thing: str, facts: Iterable[Fact]) -> bool:
    """Whether one of the facts is that there is this thing."""
    return any(fact.kind == "entity" and same_thing(fact.of, thing) for fact in facts)


def with_its_thing(fact: Fact, facts: Sequence[Fact]) -> Fact:
    """How a fact is added to a sentence that states ``facts``: that of a background which the sentence does not name
    yet becomes where its first thing is."""
    if fact.kind != "attribute" or is_named(fact.of, facts) or head(fact.of) not in GROUNDS:
        return fact
    first = min((other for other in facts if other.kind == "entity"), key=lambda other: other.start, default=None)
    of, plural = (first.of, first.plural) if first else ("", False)
    return Fact(kind="relation", of=of, value="on", to=f"{fact.value} {fact.of}", plural=plural)


def _meaning(text: str) -> frozenset[str]:
    words = set(_stems(text).split())
    return frozenset(words - _LITTLE or words)


def _stems(text: str) -> str:
    return " ".join(_stem(_NUMBERS.get(word, word)) for word in _WORD.findall(text.casefold()))


def _stem(word: str) -> str:
    """The singular of a plural, roughly: only to compare words."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for ending, put in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + put
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3 else word
