"""Semantic correction of the sentences of many pictures: facts checked by witnesses, then the sentences revised."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

from surd.pipeline.facts.edits import add, drop, swap
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.sentences.claims import GROUNDS, INVERSE, head, same_thing, stated
from surd.pipeline.sentences.fact_calibration import threshold
from surd.pipeline.sentences.fact_check import FactChecker, PictureTexts
from surd.pipeline.sentences.revision import Reviser, Revision
from surd.pipeline.sentences.witnesses import Witness
from surd.schemas.config import CorrectConfig

_SIDE_BY_SIDE = re.compile(r" and ((?:(?:an?|one|the) )?)")
#: What is less probable is not added, however rarely what is added may be false.
_PROBABLE = 0.9
#: By how many facts another sentence must be better than a caption to take its place: only captions are made from the
#: picture.
_LEAD = 0.5


class FactCorrection:
    """Checks and revises the texts of many pictures; ``others(fact, picture)`` gives what could be true in
    place of a fact, the likeliest for the picture first."""

    def __init__(
        self,
        settings: CorrectConfig,
        witnesses: Sequence[Witness],
        read: Callable[[Sequence[str]], list[Sentence]],
        others: Callable[[Fact, int], Sequence[Fact]],
        people: Callable[[Sequence[Sentence]], list[list[tuple[int, int]]]],
    ) -> None:
        self._settings = settings
        self.checker = FactChecker(witnesses, read, others, _edited, completed, people)

    def revise(self, pictures: Sequence[PictureTexts]) -> list[list[Revision]]:
        """The finalists of each picture, revised, the best first: at most one caption of each name and one other."""
        self.checker.check(pictures)
        finalists = [[Revision(texts, text) for text in self._finalists(texts)] for texts in pictures]
        revisions = [one for of_picture in finalists for one in of_picture]
        prompted = [
            claim.belief
            for texts in pictures
            for claim in texts.claims.values()
            if "prompt" in claim.origin and claim.scores and not claim.fact.negated
        ]
        beliefs = [belief for one in revisions for belief in self._stated(one.texts, one.text)]
        least, sure, added = self.bounds(beliefs, prompted)
        reviser = Reviser(
            self.checker,
            completed if self._settings.add else _nothing,
            least=least,
            sure=sure,
            added=added,
            rounds=self._settings.rounds,
        )
        reviser.revise(revisions)
        self._judge(revisions)
        return [sorted(of_picture, key=self._rank) for of_picture in finalists]

    def bounds(self, stated: Sequence[float], prompted: Sequence[float]) -> tuple[float, float, float]:
        """How probable a fact must be to stay, to take another's place, and to be added.

        ``stated``, ``prompted``: how probable those are which sentences state, and which only prompts state; of both a
        share ``false_fact_rate`` may be false. What takes the place of another must be so probable by itself.
        """
        rate = self._settings.false_fact_rate
        if rate is None or not self._is_calibrated:
            return 1 - self._settings.evidence, self._settings.evidence, self._settings.evidence
        return threshold(stated, rate), 1 - rate, max(_PROBABLE, threshold(prompted, rate))

    @property
    def _is_calibrated(self) -> bool:
        """Whether what may be false is decided over all sentences together, and for none by itself."""
        return self._settings.false_fact_rate is not None and self.checker.calibration.fitted

    def value(self, texts: PictureTexts, text: str) -> float:
        """How many more true facts than false ones a sentence probably states."""
        return math.fsum(2 * belief - 1 for belief in self._stated(texts, text))

    def _stated(self, texts: PictureTexts, text: str) -> list[float]:
        """How probable the facts of a sentence are, as far as witnesses have judged them."""
        sentence = self.checker.sentence(text)
        claims = [self.checker.claim(texts, sentence, fact, implied) for fact, implied in stated(sentence)]
        return [claim.belief for claim in claims if claim.scores]

    def _finalists(self, texts: PictureTexts) -> list[str]:
        """The most truthful caption of each name and the most truthful other sentence, ties in the order given."""
        best: dict[str, str] = {}
        for text, method in texts.candidates.items():
            if method not in best or self.value(texts, text) > self.value(texts, best[method]):
                best[method] = text
        others = [text for method, text in best.items() if not is_caption(method)]
        captions = [text for method, text in best.items() if is_caption(method)]
        return [*captions, *sorted(others, key=lambda text: -self.value(texts, text))[:1]]

    def _judge(self, revisions: Sequence[Revision]) -> None:
        """Ask of what the revised sentences state and nobody has asked yet."""
        claims = []
        for one in revisions:
            sentence = self.checker.sentence(one.text)
            claims += [self.checker.claim(one.texts, sentence, fact, implied) for fact, implied in stated(sentence)]
        self.checker.judge([claim for claim in claims if not claim.scores])
        for one in revisions:
            beliefs = self._stated(one.texts, one.text)
            one.holds = bool(beliefs) and (self._is_calibrated or min(beliefs) >= 0.5)

    def _rank(self, one: Revision) -> tuple[float, str]:
        lead = _LEAD if is_caption(one.texts.candidates[one.before]) else 0.0
        return -self.value(one.texts, one.text) - lead, one.text


def is_caption(method: str) -> bool:
    """Whether a candidate was made from the picture: "caption", or "caption:" and the name of its template."""
    return method.partition(":")[0] == "caption"


def _edited(sentence: Sentence, fact: Fact, other: Fact | None) -> str | None:
    if other is not None:
        return swap(sentence, fact, other)
    if fact.kind == "attribute" and head(fact.of) in GROUNDS:  # "on a background" says nothing: it goes as a whole
        grounds = [one for one in sentence.facts if one.kind == "relation" and head(one.to or "") in GROUNDS]
        return drop(sentence, grounds[0]) if grounds else drop(sentence, fact)
    return drop(sentence, fact)


def completed(sentence: Sentence, fact: Fact) -> str | None:
    """The sentence with one more fact; None if it cannot be added.

    Two things that are named side by side are related in place: "a cat and a dog" -> "a cat left of a dog".
    """
    things = [one for one in sentence.facts if one.kind == "entity" and one.start >= 0]
    own = next((one for one in things if same_thing(one.of, fact.of)), None)
    other = next((one for one in things if fact.to and same_thing(one.of, fact.to)), None)
    if fact.kind == "relation" and own and other:
        first, second = sorted((own, other), key=lambda one: one.start)
        value = fact.value if first is own else INVERSE.get(fact.value)
        between = _SIDE_BY_SIDE.fullmatch(sentence.text, first.end, second.start)
        if value is None or between is None:
            return None
        return f"{sentence.text[: first.end]} {value} {between[1]}{sentence.text[second.start :]}"
    if own is not None:
        fact = dataclasses.replace(fact, of=own.of, plural=own.plural)
    return add(sentence, fact)


def _nothing(sentence: Sentence, fact: Fact) -> str | None:
    return None
