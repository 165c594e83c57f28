"""What could be true in place of a fact: values of its class or its build, the likeliest for the picture first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surd.pipeline.facts.alternatives import Alternatives
from surd.pipeline.facts.fact import Fact
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.schemas.config import CorrectConfig

#: The sentence by which CLIP ranks values of each kind, where they are too many to put each into its sentence.
_ASKED = {
    "entity": "a picture of {}", "count": "a picture of {} things", "attribute": "a picture of something {}",
    "relation": "one thing {} another", "action": "a person {}", "text": "the text {}", "style": "a picture {}",
}  # fmt: skip
#: Values of a fact that are ranked for a picture.
_RANKED = 64


class OtherValues:
    """``alternatives``: what else facts could be in any picture; ``targets`` [pictures, width]: what CLIP compares
    sentences with."""

    def __init__(
        self, alternatives: Alternatives, models: Models, settings: CorrectConfig, targets: FloatArray
    ) -> None:
        self._alternatives, self._models, self._settings, self._targets = alternatives, models, settings, targets
        self._vectors: dict[str, FloatArray] = {}
        self._of: dict[Fact, Sequence[Fact]] = {}

    def __call__(self, fact: Fact, picture: int) -> Sequence[Fact]:
        """Other facts, the likeliest for a picture first."""
        if fact not in self._of:
            self._of[fact] = self._alternatives.of(fact, most=_RANKED)
        others = self._of[fact]
        if len(others) <= self._settings.alternatives:
            return others
        texts = [_ASKED[fact.kind].format(_phrase(other)) for other in others]
        if missing := sorted(set(texts) - self._vectors.keys()):
            vectors = self._models.clip.embed_distinct(missing, self._settings.batch_size)
            self._vectors |= dict(zip(missing, vectors, strict=True))
        scores = np.stack([self._vectors[text] for text in texts]) @ self._targets[picture]
        return [others[int(at)] for at in np.argsort(-scores, kind="stable")[: self._settings.alternatives]]


def _phrase(fact: Fact) -> str:
    if fact.kind == "entity":
        return fact.of
    return f"{fact.value} {fact.to}" if fact.kind == "action" and fact.to else fact.value
