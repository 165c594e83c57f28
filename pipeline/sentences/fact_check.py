"""Turns a sentence about an image into one whose facts CLIP believes, swapping each fact for its alternatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.sentences.lexicon import Fact, Group, Lexicon
from surd.schemas.config import CorrectConfig


@dataclass(frozen=True)
class Swap:
    """One fact of a sentence said otherwise: ``fact`` None where it was not said, ``value`` None to leave it out."""

    group: str
    fact: Fact | None
    value: int | None
    sentence: str


@dataclass
class Checked:
    """A sentence after its facts were checked, its CLIP embedding, and what was repaired on the way. ``image`` and
    ``prompt`` are the embeddings of what it is held against."""

    sentence: str
    image: FloatArray
    prompt: FloatArray
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

    def check(self, claims: Sequence[tuple[str, FloatArray, FloatArray]]) -> list[Checked]:
        """Sentences, each with the unit embeddings of its image and complex prompt -> sentences with facts repaired.

        A fact is repaired when CLIP, asked to choose between the sentence and the sentence with that fact swapped, is
        ``settings.evidence`` sure of the swap at its own temperature. The image is the witness; the complex prompt is
        heard too, at ``settings.prompt_weight``, and the score against the image must rise in any case. Rule ``paper``
        and 0 rounds repair nothing.
        """
        if not claims:
            return []
        vectors = self._embed([sentence for sentence, _, _ in claims])
        checked = [Checked(*claim, vector) for claim, vector in zip(claims, vectors, strict=True)]
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
            found = [(swap, vector) for swap, vector in zip(of_one, vectors, strict=False)]
            unsaid = {swap.group: self._belief(one, vector) for swap, vector in found if swap.value is None}
            leads = [
                (self._lead(one, swap, vector, unsaid, margin), swap.sentence, swap, vector) for swap, vector in found
            ]
            best = max(leads, key=lambda lead: lead[:2], default=None)
            if best is None or best[0] <= margin:
                one.settled = True
                continue
            _, _, swap, vector = best
            one.repairs.append(self._told(one, swap, float(one.image @ vector)))
            one.sentence, one.vector = swap.sentence, vector
            one.put_in.add(swap.group)

    def _lead(
        self, one: Checked, swap: Swap, vector: FloatArray, unsaid: dict[str, float], margin: float
    ) -> float:  # fmt: skip
        """By how much a swap is more believable than the sentence. What CLIP cannot tell from saying nothing is better
        left unsaid: a phrase has to beat its own absence, and one that a repair put in has to go on doing so."""
        lead = self._belief(one, vector) - self._belief(one, one.vector)
        if swap.value is None and swap.group in one.put_in:
            return lead + 2 * margin
        if float(one.image @ vector) <= one.score:
            return 0.0
        if swap.value is None:
            return lead
        return min(lead, self._belief(one, vector) - unsaid.get(swap.group, -2.0))

    def _belief(self, one: Checked, vector: FloatArray) -> float:
        return float(one.image @ vector) + self._settings.prompt_weight * float(one.prompt @ vector)

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
            likely = [value for value in self._likely(group, one) if value not in taken | {fact.value}]
            values: list[int | None] = [*likely[: self._settings.alternatives], *([None] if group.add else [])]
            for value in values:
                if (sentence := self._lexicon.swap(one.sentence, fact, value)) and sentence != one.sentence:
                    swaps.append(Swap(fact.group, fact, value, sentence))
        for group in self._lexicon.groups.values():
            if group.add and group.name not in said:
                for value in self._likely(group, one)[: self._settings.alternatives]:
                    swaps.append(Swap(group.name, None, value, self._lexicon.added(one.sentence, group.name, value)))
        return swaps

    def _likely(self, group: Group, one: Checked) -> list[int]:
        """The values of a group, the likeliest for this image and prompt first, by the group's own question."""
        if group.name not in self._rankings:
            self._rankings[group.name] = self._embed([group.ask.format(forms[0]) for forms in group.values])
        asked = self._rankings[group.name]
        belief = asked @ one.image + self._settings.prompt_weight * (asked @ one.prompt)
        return [int(value) for value in np.argsort(-belief, kind="stable")]

    def _told(self, one: Checked, swap: Swap, score: float) -> str:
        group = self._lexicon.groups[swap.group]
        was = group.values[swap.fact.value][0] if swap.fact else "unsaid"
        now = "unsaid" if swap.value is None else group.values[swap.value][0]
        return f"{swap.group}: {was} -> {now} ({one.score:.3f} -> {score:.3f})"

    def _embed(self, sentences: list[str]) -> FloatArray:
        if not sentences:
            return np.zeros((0, 0), np.float32)
        return self._models.clip.embed_distinct(sentences, self._settings.batch_size)
