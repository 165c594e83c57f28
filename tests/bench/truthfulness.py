"""Truth of simple prompts: how many of their facts are true, the effect of repairs, and rules compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.facts import GROUPS, facts_of, is_true, judge, stated
from tests.bench.judge import Record


@dataclass
class Tally:
    """Facts asserted, of them true; facts that could be stated, of them stated."""

    asserted: int = 0
    true: int = 0
    possible: int = 0
    stated: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        for name in ("asserted", "true", "possible", "stated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def precision(self) -> float | None:
        return self.true / self.asserted if self.asserted else None

    @property
    def recall(self) -> float | None:
        return self.stated / self.possible if self.possible else None


def tally(sentences: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Tally]:
    """Group of facts -> the tally of sentences against the truth; ``all``: their sum."""
    tallies = {group: Tally() for group in GROUPS}
    for sentence, truth in sentences:
        for one in judge(sentence, truth):
            tallies[one.fact.group] += Tally(asserted=1, true=int(one.true))
        stated_groups = stated(sentence, truth)
        for group in facts_of(truth):
            tallies[group] += Tally(possible=1, stated=int(group in stated_groups))
    total = Tally()
    for one in tallies.values():
        total += one
    return tallies | {"all": total}


@dataclass(frozen=True)
class Repairs:
    """How many sentences were repaired, and in how many a wrong fact became right, a right one wrong, a right one
    was left out."""

    made: int
    fixed: int
    broke: int
    dropped: int


def judge_repairs(records: Iterable[Record]) -> Repairs:
    """The effect of repairs on the facts of kept samples."""
    fixed = broke = dropped = made = 0
    for record in records:
        if not record.kept or record.decision != "repair":
            continue
        made += 1
        wrong_before, wrong_after = (_wrong(text, record.truth) for text in (record.before, record.simple))
        stated_before, stated_after = (stated(text or "", record.truth) for text in (record.before, record.simple))
        fixed += any(group not in wrong_after for group in wrong_before)
        broke += bool(wrong_after - wrong_before)
        dropped += bool(stated_before - stated_after - wrong_after)
    return Repairs(made, fixed, broke, dropped)


def _wrong(sentence: str | None, truth: Mapping[str, Any]) -> set[str]:
    return {one.fact.group for one in judge(sentence or "", truth) if not one.true}


@dataclass(frozen=True)
class Rule:
    """The result of one way to choose samples, over the records that CLIP has scored."""

    name: str
    kept: int
    false_facts: float | None  # per kept sample
    untrue: int  # kept samples of prompts with one wrong fact, whose simple prompt is not true
    mismatched: int  # kept pairs with the prompt of another image
    good_lost: int
    good: int


def judge_rule(name: str, records: Iterable[Record], kept: Mapping[str, str | None]) -> Rule:
    """``kept`` maps the ids of the kept samples to their simple prompts."""
    scored = [record for record in records if record.scored]
    samples = [(record, str(kept[record.id] or "")) for record in scored if record.id in kept]
    false = sum(not one.true for record, simple in samples for one in judge(simple, record.truth))
    wrong = [pair for pair in samples if pair[0].kind and pair[0].kind.group == "one wrong fact"]
    untrue = [record for record, simple in wrong if not is_true(simple, record.truth)]
    mismatched = [r for r, _ in samples if r.truth["defect"] == "prompt_of_another_image"]
    good = [record for record in scored if record.sound]
    return Rule(
        name, len(samples), false / len(samples) if samples else None, len(untrue), len(mismatched),
        sum(record.id not in kept for record in good), len(good),
    )  # fmt: skip


def judge_rules(ours: list[Record], paper: list[Record] | None) -> list[Rule]:
    """Our rule, the paper's, and the same number of pairs as ours by the plain cosine of prompt and image. Without a
    build by the paper's rule, plain filtering takes our candidates from before repair."""
    rules = [judge_rule("ours", ours, {one.id: one.simple for one in ours if one.kept})]
    if paper:
        rules.append(judge_rule("paper", ours, {one.id: one.simple for one in paper if one.kept}))
    unrepaired = paper or ours
    ranked = sorted(
        (one for one in unrepaired if one.scored and one.before and one.clip_complex is not None),
        key=lambda one: (-(one.clip_complex or 0.0), one.id),
    )
    plain = {one.id: one.before for one in ranked[: rules[0].kept]}
    return [*rules, judge_rule("plain CLIP", ours, plain)]
