"""Fact checking by CLIP: every fact of a sentence against its alternatives, and the wrong ones repaired."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.sentences.lexicon import Group, Lexicon, LexiconFact
from surd.schemas.config import CorrectConfig


@dataclass(frozen=True)
class FactSwap:
    """A sentence with one fact changed: ``fact`` is None if it is a new one, ``value`` None to leave it out."""

    group: str
    fact: LexiconFact | None
    value: int | None
    sentence: str


@dataclass
class CheckedSentence:
    """A sentence whose facts are checked, its CLIP embedding, and the repairs so far. ``image`` and ``prompt`` are the
    embeddings it is compared with."""

    sentence: str
    image: FloatArray
    prompt: FloatArray
    vector: FloatArray
    repairs: list[str] = field(default_factory=list)
    added_groups: set[str] = field(default_factory=set)
    facts_checked: int = 0
    settled: bool = False

    @property
    def score(self) -> float:
        return float(self.image @ self.vector)


def decision_margin(settings: CorrectConfig, models: Models) -> float:
    """The difference of cosines at which CLIP, at its own temperature, is sure of a choice (``settings.evidence``)."""
    return math.log(settings.evidence / (1 - settings.evidence)) / models.clip.logit_scale


class FactChecker:
    """Checks many sentences together, so that CLIP sees few, large batches."""

    def __init__(self, models: Models, settings: CorrectConfig, lexicon: Lexicon) -> None:
        self._models, self._settings, self._lexicon = models, settings, lexicon
        self._group_vectors: dict[str, FloatArray] = {}

    def check(self, claims: Sequence[tuple[str, FloatArray, FloatArray]]) -> list[CheckedSentence]:
        """Sentences, each with the unit embeddings of its image and complex prompt -> sentences with facts repaired.

        A fact is repaired when CLIP, choosing between the sentence and the sentence with that fact swapped, gives the
        swap at least the probability ``settings.evidence`` at its own temperature. The image counts in full, the
        complex prompt by ``settings.prompt_weight``, and the score against the image must rise in any case. Rule
        ``paper`` and 0 rounds repair nothing.
        """
        if not claims:
            return []
        vectors = self._embed([sentence for sentence, _, _ in claims])
        checked = [CheckedSentence(*claim, vector) for claim, vector in zip(claims, vectors, strict=True)]
        for _ in range(self._settings.rounds if self._settings.rule == "facts" else 0):
            unsettled = [one for one in checked if not one.settled]
            if unsettled:
                self._round(unsettled)
        return checked

    def _round(self, checked: list[CheckedSentence]) -> None:
        """Repairs in each sentence the one fact that is most surely wrong: one at a time, since beside a wrong fact
        anything else looks better than it is; the next round compares the others without it."""
        swaps = [self._swaps(one) for one in checked]
        vectors = iter(self._embed([swap.sentence for of_one in swaps for swap in of_one]))
        needed = decision_margin(self._settings, self._models)
        for one, of_one in zip(checked, swaps, strict=True):
            embedded = [(swap, vector) for swap, vector in zip(of_one, vectors, strict=False)]
            omitted = {swap.group: self._score(one, vector) for swap, vector in embedded if swap.value is None}
            ranked = [
                (self._margin(one, swap, vector, omitted, needed), swap.sentence, swap, vector)
                for swap, vector in embedded
            ]
            best = max(ranked, key=lambda entry: entry[:2], default=None)
            if best is None or best[0] <= needed:
                one.settled = True
                continue
            _, _, swap, vector = best
            one.repairs.append(self._describe(one, swap, float(one.image @ vector)))
            one.sentence, one.vector = swap.sentence, vector
            one.added_groups.add(swap.group)

    def _margin(
        self, one: CheckedSentence, swap: FactSwap, vector: FloatArray, omitted: dict[str, float], needed: float
    ) -> float:  # fmt: skip
        """By how much a swap scores better than the sentence. A phrase that CLIP cannot tell from its absence is better
        left out: it has to beat ``omitted``, the score without it, and after a repair has added it, still has to."""
        gain = self._score(one, vector) - self._score(one, one.vector)
        if swap.value is None and swap.group in one.added_groups:
            return gain + 2 * needed
        if float(one.image @ vector) <= one.score:
            return 0.0
        if swap.value is None:
            return gain
        return min(gain, self._score(one, vector) - omitted.get(swap.group, -2.0))

    def _score(self, one: CheckedSentence, vector: FloatArray) -> float:
        return float(one.image @ vector) + self._settings.prompt_weight * float(one.prompt @ vector)

    def _swaps(self, one: CheckedSentence) -> list[FactSwap]:
        """Every changed sentence to compare.

        Counts are not checked when the sentence counts several things: CLIP cannot tell which of them a number belongs
        to. No thing is changed into one that the sentence already names.
        """
        facts = self._lexicon.facts(one.sentence)
        one.facts_checked = max(one.facts_checked, len(facts))
        stated = Counter(fact.group for fact in facts)
        swaps = []
        for fact in facts:
            group = self._lexicon.groups[fact.group]
            if group.kind == "number" and stated[group.name] > 1:
                continue
            taken = {other.value for other in facts if other.group == fact.group} if group.kind == "noun" else set()
            likely = [value for value in self._likely(group, one) if value not in taken | {fact.value}]
            values: list[int | None] = [*likely[: self._settings.alternatives], *([None] if group.add else [])]
            for value in values:
                if (sentence := self._lexicon.swap(one.sentence, fact, value)) and sentence != one.sentence:
                    swaps.append(FactSwap(fact.group, fact, value, sentence))
        for group in self._lexicon.groups.values():
            if group.add and group.name not in stated:
                for value in self._likely(group, one)[: self._settings.alternatives]:
                    sentence = self._lexicon.added(one.sentence, group.name, value)
                    swaps.append(FactSwap(group.name, None, value, sentence))
        return swaps

    def _likely(self, group: Group, one: CheckedSentence) -> list[int]:
        """The values of a group, the likeliest for this image and prompt first, by the group's own prompt (``ask``)."""
        if group.name not in self._group_vectors:
            self._group_vectors[group.name] = self._embed([group.ask.format(forms[0]) for forms in group.values])
        vectors = self._group_vectors[group.name]
        scores = vectors @ one.image + self._settings.prompt_weight * (vectors @ one.prompt)
        return [int(value) for value in np.argsort(-scores, kind="stable")]

    def _describe(self, one: CheckedSentence, swap: FactSwap, score: float) -> str:
        group = self._lexicon.groups[swap.group]
        was = group.values[swap.fact.value][0] if swap.fact else "unsaid"
        now = "unsaid" if swap.value is None else group.values[swap.value][0]
        return f"{swap.group}: {was} -> {now} ({one.score:.3f} -> {score:.3f})"

    def _embed(self, sentences: list[str]) -> FloatArray:
        if not sentences:
            return np.zeros((0, 0), np.float32)
        return self._models.clip.embed_distinct(sentences, self._settings.batch_size)
