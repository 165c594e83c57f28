"""Witnesses: who says whether a fact is true of a picture, in log odds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image
from scipy.special import logit, logsumexp

from surd.pipeline.facts.questions import question
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.sentences.claims import FactClaim
from surd.schemas.config import CorrectConfig

#: A picture's place and a question about it; and P(yes) of several, None without an answer.
Asked = tuple[int, str]
Answers = Iterable[float | None]
Begin = Callable[[int], OnDone]
_SUREST = 1e-6
_PICTURES = 64  # whole pictures held at once for a model that is asked about them


class Witness(ABC):
    """``ask`` fills ``claim.scores[name]`` of those claims that this witness can judge.

    ``begin(count)`` of each is called before its model is asked about so many texts or pictures, and gives the OnDone
    that is told of them.
    """

    name: str

    @abstractmethod
    def ask(self, claims: Sequence[FactClaim]) -> None:
        """Judge claims, all at once so that models see large batches."""


class ClipWitness(Witness):
    """CLIP chooses, at its own temperature, between the sentence with the fact and the sentences without it.

    ``targets`` [pictures, width]: what sentences are compared with, the image in full, the complex prompt by
    ``correct.prompt_weight``. A claim without a sentence of its own, or without rivals, is not judged.
    """

    name = "clip"

    def __init__(
        self, models: Models, settings: CorrectConfig, targets: FloatArray, begin: Begin = lambda count: uncounted
    ) -> None:
        self._models, self._settings, self._targets, self._begin = models, settings, targets, begin
        self._vectors: dict[str, FloatArray] = {}

    def ask(self, claims: Sequence[FactClaim]) -> None:
        """See Witness."""
        judged = [claim for claim in claims if claim.sentence and claim.rivals]
        texts = {text for claim in judged for text in (claim.sentence, *claim.rivals) if text}
        if missing := sorted(texts - self._vectors.keys()):
            count = self._begin(len(missing))
            vectors = self._models.clip.embed_distinct(missing, self._settings.batch_size, count)
            self._vectors |= dict(zip(missing, vectors, strict=True))
        scale = self._models.clip.logit_scale
        for claim in judged:
            rivals = np.stack([self._vectors[text] for text in claim.rivals])
            target = self._targets[claim.picture]
            own = float(self._vectors[str(claim.sentence)] @ target)
            claim.scores[self.name] = scale * own - float(logsumexp(scale * (rivals @ target)))


class YesNoWitness(Witness):
    """A model that looks at the picture and answers a yes/no question about the fact alone.

    ``probabilities(images, questions)``: for each image P(yes) of each of its questions, None without an answer.
    ``pictures(places)`` gives the pictures at these places, in order. No question is put twice about one picture.
    ``recall(asked, ask)`` gives the answers to (place, question) pairs; those that it does not know, by ``ask``.
    """

    def __init__(
        self,
        name: str,
        probabilities: Callable[[Sequence[Image.Image], Sequence[Sequence[str]]], Sequence[list[float | None]]],
        pictures: Callable[[Sequence[int]], Iterator[Image.Image]],
        recall: Callable[[list[Asked], Callable[[list[Asked]], Answers]], Answers] = lambda asked, ask: ask(asked),
        begin: Begin = lambda count: uncounted,
    ) -> None:
        self.name, self._probabilities, self._pictures, self._recall = name, probabilities, pictures, recall
        self._begin = begin
        self._answers: dict[Asked, float | None] = {}

    def ask(self, claims: Sequence[FactClaim]) -> None:
        """See Witness. Of a negated fact the opposite is asked."""
        asked = [(claim, question(claim.fact)) for claim in claims]
        unanswered = dict.fromkeys(
            pair for claim, text in asked if (pair := (claim.picture, text)) not in self._answers
        )
        by_picture = sorted(unanswered, key=lambda pair: pair[0])
        self._answers |= zip(by_picture, self._recall(by_picture, self._ask_model), strict=True)
        for claim, text in asked:
            answer = self._answers[claim.picture, text]
            if answer is not None:
                odds = float(logit(min(max(answer, _SUREST), 1 - _SUREST)))
                claim.scores[self.name] = -odds if claim.fact.negated else odds

    def _ask_model(self, asked: list[Asked]) -> Answers:
        """The model's answers, one after another; ``asked`` is sorted by picture."""
        questions: dict[int, list[str]] = defaultdict(list)
        for place, text in asked:
            questions[place].append(text)
        pictures, count = self._pictures(list(questions)), self._begin(len(questions))
        for at in range(0, len(questions), _PICTURES):
            block = list(questions)[at : at + _PICTURES]
            images = [next(pictures) for _ in block]
            for of_picture in self._probabilities(images, [questions[place] for place in block]):
                yield from of_picture
            count(len(block))
