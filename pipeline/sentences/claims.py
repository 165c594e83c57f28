"""Claims: what texts say of one picture, each fact once, and who says it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from surd.pipeline.facts.fact import Fact

_WORD = re.compile(r"[^\W_]+")
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
} | {"a": "1", "an": "1", "single": "1", "pair": "2", "couple": "2", "dozen": "12"}  # fmt: skip
Key = tuple[str, str, str, str]


@dataclass
class Claim:
    """A fact that is said of picture ``picture``, in ``sentence``; ``rivals``: the sentence with another value of the
    fact, or without it; ``origin``: who states it (see ``PRIORS``); ``scores``: the log odds of each witness."""

    picture: int
    fact: Fact
    sentence: str | None
    rivals: tuple[str, ...] = ()
    origin: str = "neither"
    scores: dict[str, float] = field(default_factory=dict)
    belief: float = 0.5


def fact_key(fact: Fact) -> Key:
    """What tells facts apart: the same for other articles, cases and forms of the number."""
    return (fact.kind, _stems(fact.of), _stems(fact.value), _stems(fact.to or ""))


def slot(fact: Fact) -> tuple[str, ...]:
    """What a fact is about, whatever its value: facts of one slot exclude each other where a picture has one value."""
    if fact.kind == "relation":
        return (fact.kind, _stems(fact.of), _stems(fact.to or ""))
    return (fact.kind, _stems(fact.of), fact.aspect if fact.kind == "attribute" else "")


def _stems(text: str) -> str:
    return " ".join(_stem(_NUMBERS.get(word, word)) for word in _WORD.findall(text.casefold()))


def _stem(word: str) -> str:
    """The singular of a regular plural, roughly: only to compare words."""
    for ending, put in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + put
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3 else word
