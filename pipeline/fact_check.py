"""Turns a sentence about an image into one whose facts CLIP believes, swapping each fact for its alternatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.lexicon import Fact, Group, Lexicon
from pipeline.models import Models
from pipeline.models.clip import FloatArray
from pipeline.score import embed_distinct
from schemas.config import CorrectConfig


@dataclass(frozen=True)
class Swap:
    """One fact of a sentence said otherwise: ``fact`` None where it was not said, ``value`` None to leave it out."""

    group: str
    fact: Fact | None
    value: int | None
    sentence: str


@dataclass
class Checked:
    """A sentence after its facts were checked, its CLIP embedding, and what was repaired on the way."""

    sentence: str
    image: FloatArray
    vector: FloatArray
    repairs: list[str] = field(default_factory=list)
    put_in: set[str] = field(default_factory=set)
    facts_checked: int = 0
    settled: bool = False

    @property
    def score(self) -> float:
        return float(self.image @ self.vector)


def surely_better(settings: CorrectConfig, models: Models) -> float:
    """The difference of cosines at which CLIP, at its own temperature, is ``settings.evidence`` sure of a choice."""
    return math.log(settings.evidence / (1 - settings.evidence)) / models.clip.logit_scale


class FactChecker:
    """Checks many sentences together, so that CLIP sees few, large batches."""

    def __init__(self, models: Models, settings: CorrectConfig, lexicon: Lexicon) -> None:
        self._models, self._settings, self._lexicon = models, settings, lexicon
        self._rankings: dict[str, FloatArray] = {}

    def check(self, pairs: Sequence[tuple[str, FloatArray]]) -> list[Checked]:
        """Sentences and the unit embeddings of their images -> sentences with their facts repaired.

        A fact is repaired when CLIP, asked to choose between the sentence and the sentence with that fact swapped, is
        ``settings.evidence`` sure of the swap at its own temperature. Rule ``paper`` and 0 rounds repair nothing.
        """
        if not pairs:
            return []
        vectors = self._embed([sentence for sentence, _ in pairs])
        checked = [Checked(text, image, vector) for (text, image), vector in zip(pairs, vectors, strict=True)]
        for _ in range(self._settings.rounds if self._settings.rule == "facts" else 0):
            unsettled = [one for one in checked if not one.settled]
            if unsettled:
                self._round(unsettled)
        return checked

    def _round(self, checked: list[Checked]) -> None:
        """Repairs in each sentence the one fact that CLIP is surest is wrong: one at a time, since beside a wrong fact
        anything else looks better than it is; the next round judges the rest in better company."""
        swaps = [self._swaps(one) for one in checked]
        vectors = iter(self._embed([swap.sentence for of_one in swaps for swap in of_one]))
        margin = surely_better(self._settings, self._models)
        for one, of_one in zip(checked, swaps, strict=True):
            scored = [(float(one.image @ vector), swap, vector) for swap, vector in zip(of_one, vectors, strict=False)]
            unsaid = {swap.group: score for score, swap, _ in scored if swap.value is None}
            leads = [
                (self._lead(one, swap, score, unsaid, margin), swap.sentence, score, swap, vector)
                for score, swap, vector in scored
            ]
            best = max(leads, key=lambda found: found[:2], default=None)
            if best is None or best[0] <= margin:
                one.settled = True
                continue
            _, one.sentence, score, swap, vector = best
            one.repairs.append(self._told(float(one.vector @ one.image), swap, score))
            one.vector = vector
            one.put_in.add(swap.group)

    @staticmethod
    def _lead(one: Checked, swap: Swap, score: float, unsaid: dict[str, float], margin: float) -> float:
        """By how much a swap beats the sentence. What CLIP cannot tell from saying nothing is better left unsaid: a
        phrase has to beat its own absence, and one that a repair put in has to go on doing so."""
        if swap.value is None:
            return score - one.score + (2 * margin if swap.group in one.put_in else 0.0)
        return score - max(one.score, unsaid.get(swap.group, -1.0))

    def _swaps(self, one: Checked) -> list[Swap]:
        """Every sentence to ask about.

        Left alone are numbers where several things are counted, since CLIP cannot tell which of them a number belongs
        to; and no thing is turned into one that the sentence names already.
        """
        facts = self._lexicon.facts(one.sentence)
        one.facts_checked = max(one.facts_checked, len(facts))
        said = Counter(fact.group for fact in facts)
        swaps = []
        for fact in facts:
            group = self._lexicon.groups[fact.group]
            if group.kind == "number" and said[group.name] > 1:
                continue
            taken = {other.value for other in facts if other.group == fact.group} if group.kind == "noun" else set()
            likely = [value for value in self._likely(group, one.image) if value not in taken | {fact.value}]
            values: list[int | None] = [*likely[: self._settings.alternatives], *([None] if group.add else [])]
            for value in values:
                if (sentence := self._lexicon.swap(one.sentence, fact, value)) and sentence != one.sentence:
                    swaps.append(Swap(fact.group, fact, value, sentence))
        for group in self._lexicon.groups.values():
            if group.add and group.name not in said:
                for value in self._likely(group, one.image)[: self._settings.alternatives]:
                    swaps.append(Swap(group.name, None, value, self._lexicon.added(one.sentence, group.name, value)))
        return swaps

    def _likely(self, group: Group, image: FloatArray) -> list[int]:
        """The values of a group, the likeliest for this image first, by the group's own question."""
        if group.name not in self._rankings:
            self._rankings[group.name] = self._embed([group.ask.format(forms[0]) for forms in group.values])
        return [int(value) for value in np.argsort(-(self._rankings[group.name] @ image), kind="stable")]

    def _told(self, before: float, swap: Swap, score: float) -> str:
        group = self._lexicon.groups[swap.group]
        was = group.values[swap.fact.value][0] if swap.fact else "unsaid"
        now = "unsaid" if swap.value is None else group.values[swap.value][0]
        return f"{swap.group}: {was} -> {now} ({before:.3f} -> {score:.3f})"

    def _embed(self, sentences: list[str]) -> FloatArray:
        if not sentences:
            return np.zeros((0, 0), np.float32)
        return embed_distinct(self._models.clip, sentences, self._settings.batch_size)
