"""Verdicts on the facts that a sentence asserts: which are true of a scene of the demo world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surd.pipeline.demo.world.prompts import OPPOSITE
from surd.pipeline.demo.world.scenes import TINTABLE
from tests.bench.fact_words import MANY, OWN_COLOURS, PERSON
from tests.bench.reading import GROUPS, Fact, read_facts

__all__ = ["GROUPS", "Fact", "Judged", "facts_of", "is_true", "judge", "read_facts", "stated"]


@dataclass(frozen=True)
class Judged:
    """An asserted fact, and whether it is true of the picture."""

    fact: Fact
    true: bool


def judge(sentence: str, truth: Mapping[str, Any]) -> list[Judged]:
    """Each fact that the sentence asserts and that can be judged, with its verdict. `truth` names a scene's facts as
    `pipeline.demo.world.prompts.truth` does."""
    verdicts = ((fact, _verdict(fact, truth)) for fact in read_facts(sentence))
    return [Judged(fact, true) for fact, true in verdicts if true is not None]


def is_true(sentence: str, truth: Mapping[str, Any]) -> bool:
    """Whether the sentence asserts something, and nothing that is false."""
    judged = judge(sentence, truth)
    return bool(judged) and all(one.true for one in judged)


def facts_of(truth: Mapping[str, Any]) -> set[str]:
    """The groups in which a scene has a fact that a full sentence states."""
    groups = {"action", "count"} if truth["kind"] == "action" else {"subject"}
    groups |= {"count"} if truth["kind"] == "count" else {"relation"} if truth["kind"] == "relation" else set()
    groups |= {"tint"} if truth["tint"] else set()
    return groups | {"background"} | ({"style"} if truth["style"] != "none" else set())


def stated(sentence: str, truth: Mapping[str, Any]) -> set[str]:
    """Those groups of `facts_of` whose fact the sentence states completely and correctly."""
    judged = judge(sentence, truth)
    false = {one.fact.group for one in judged if not one.true}
    true = [one.fact for one in judged if one.true]
    groups = {fact.group for fact in true if fact.value != MANY}
    named = {fact.value for fact in true if fact.group == "subject"}
    if truth["kind"] == "relation" and {truth["subject"], truth["other"]} - named:
        groups.discard("subject")
    return (groups - false) & facts_of(truth)


def _verdict(fact: Fact, truth: Mapping[str, Any]) -> bool | None:
    """None if the picture does not decide it, or the mistake is already counted in another fact."""
    shown = {truth["subject"], truth["other"]} - {None}
    match fact.group:
        case "subject":
            return None if fact.value == PERSON and PERSON in shown else fact.value in shown
        case "count":
            return _count_verdict(fact, truth, shown)
        case "tint" if fact.about not in shown:
            return None  # the subject is wrong, not its colour
        case "tint":
            return fact.value == truth["tint"] if fact.about in TINTABLE else _own_colour(fact)
        case "background":
            return bool(fact.value == truth["background"])
        case "action":
            return bool(fact.value == truth["action"])
        case "relation":
            return _relation_verdict(fact, truth)
        case "style":
            return bool(fact.value == truth["style"])
    raise ValueError(f"fact.group is {fact.group!r}: not one of GROUPS")


def _count_verdict(fact: Fact, truth: Mapping[str, Any], shown: set[Any]) -> bool | None:
    total = 2 if truth["kind"] == "relation" and fact.about == "things" else int(truth["count"])
    if truth["kind"] == "relation" and fact.about in shown:
        return None if fact.value == 1 else False  # one of each is implied
    if fact.about == PERSON and PERSON not in shown and fact.value == 1:
        return None
    return total > 1 if fact.value == MANY else fact.value == total


def _own_colour(fact: Fact) -> bool:
    return fact.value in OWN_COLOURS[fact.about].split(", ")


def _relation_verdict(fact: Fact, truth: Mapping[str, Any]) -> bool | None:
    if not truth["relation"]:
        return False
    first, second = fact.about
    if first == second:
        return None
    if first == truth["subject"] or second == truth["other"]:
        return bool(fact.value == truth["relation"])
    if first == truth["other"] or second == truth["subject"]:
        return OPPOSITE[fact.value] == truth["relation"]
    return None
