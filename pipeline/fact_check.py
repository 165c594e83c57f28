"""Turns a sentence about an image into one whose facts CLIP believes, swapping each fact for its alternatives."""

from __future__ import annotations

import math
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
    facts_checked: int = 0
    settled: bool = False

    @property
    def score(self) -> float:
        return float(self.image @ self.vector)


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
        swaps = [self._swaps(one) for one in checked]
        vectors = iter(self._embed([swap.sentence for of_one in swaps for swap in of_one]))
        scored = [[(float(one.image @ next(vectors)), swap) for swap in of_one] for one, of_one in
                  zip(checked, swaps, strict=True)]  # fmt: skip
        repairs = [self._convincing(one.score, of_one) for one, of_one in zip(checked, scored, strict=True)]
        together = [_together(self._lexicon, one.sentence, [swap for _, swap in of_one]) for one, of_one in
                    zip(checked, repairs, strict=True)]  # fmt: skip
        vectors = iter(self._embed([sentence for sentence in together if sentence]))
        for one, of_one, sentence in zip(checked, repairs, together, strict=True):
            one.settled = not of_one
            if not of_one or not sentence:
                continue
            vector = next(vectors)
            # One repair alone may be better than all at once, when two of them say the same thing twice.
            score, single = of_one[0]
            if float(one.image @ vector) < score:
                vector = self._embed([single.sentence])[0]
                of_one, sentence = of_one[:1], single.sentence
            if float(one.image @ vector) > one.score:
                one.repairs += [self._told(one, swap, score) for score, swap in of_one]
                one.sentence, one.vector = sentence, vector
            else:
                one.settled = True

    def _swaps(self, one: Checked) -> list[Swap]:
        """Every sentence to ask about."""
        facts = self._lexicon.facts(one.sentence)
        one.facts_checked = max(one.facts_checked, len(facts))
        swaps = []
        for fact in facts:
            group = self._lexicon.groups[fact.group]
            values: list[int | None] = [value for value in self._likely(group, one.image) if value != fact.value]
            for value in values[: self._settings.alternatives] + ([None] if group.add else []):
                if (sentence := self._lexicon.swap(one.sentence, fact, value)) and sentence != one.sentence:
                    swaps.append(Swap(fact.group, fact, value, sentence))
        said = {fact.group for fact in facts}
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

    def _convincing(self, score: float, scored: list[tuple[float, Swap]]) -> list[tuple[float, Swap]]:
        """For each fact the best swap that CLIP is sure of, the surest first."""
        odds = math.log(self._settings.evidence / (1 - self._settings.evidence))
        needed = score + odds / self._models.clip.logit_scale
        best: dict[tuple[str, int], tuple[float, Swap]] = {}
        for other, swap in scored:
            place = (swap.group, swap.fact.start if swap.fact else -1)
            if other > needed and (place not in best or other > best[place][0]):
                best[place] = (other, swap)
        return sorted(best.values(), key=lambda pair: (-pair[0], pair[1].sentence))

    def _told(self, one: Checked, swap: Swap, score: float) -> str:
        group = self._lexicon.groups[swap.group]
        was = group.values[swap.fact.value][0] if swap.fact else "unsaid"
        now = "unsaid" if swap.value is None else group.values[swap.value][0]
        return f"{swap.group}: {was} -> {now} ({one.score:.3f} -> {score:.3f})"

    def _embed(self, sentences: list[str]) -> FloatArray:
        if not sentences:
            return np.zeros((0, 0), np.float32)
        return embed_distinct(self._models.clip, sentences, self._settings.batch_size)


def _together(lexicon: Lexicon, sentence: str, swaps: list[Swap]) -> str | None:
    """``sentence`` with all swaps made, from right to left, so that places further left stay true."""
    for swap in sorted(swaps, key=lambda swap: -(swap.fact.start if swap.fact else 10**9)):
        if swap.fact is None:
            assert swap.value is not None
            sentence = lexicon.added(sentence, swap.group, swap.value)
        else:
            sentence = lexicon.swap(sentence, swap.fact, swap.value) or sentence
    return sentence if swaps else None
