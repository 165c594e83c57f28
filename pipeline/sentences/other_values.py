"""What else a fact could be of a picture: values of its class or its build, the likeliest for the picture first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pipeline.sentences.lexicon import read_lexicon
from surd.schemas.config import CorrectConfig

#: The sentence by which CLIP ranks values of each kind, where they are too many to put each into its sentence.
_ASKED = {
    "entity": "a picture of {}", "count": "a picture of {} things", "attribute": "a picture of something {}",
    "relation": "one thing {} another", "action": "a person {}", "text": "the text {}", "style": "a picture {}",
}  # fmt: skip


class OtherValues:
    """``sentences``: what the build's texts state; ``images``: unit vectors [pictures, width]."""

    def __init__(
        self, sentences: Sequence[Sentence], settings: CorrectConfig, models: Models, targets: FloatArray
    ) -> None:
        self._lexicon = read_lexicon(settings.lexicon)
        self._by = {form: (g, n) for form, (g, n, _) in self._lexicon._forms.items()}
        self._models, self._settings, self._targets = models, settings, targets
        self._ranked = lru_cache(maxsize=100_000)(self._rank)
        self._embedded: dict[tuple[str, ...], FloatArray] = {}

    def __call__(self, fact: Fact, picture: int) -> Sequence[str]:
        return self._ranked(fact.kind, fact.of if fact.kind == "entity" else fact.value, picture)

    def _rank(self, kind: str, value: str, picture: int) -> Sequence[str]:
        values = self._values(value)
        if not values or not len(self._targets):
            return values
        if values not in self._embedded:
            texts = [_ASKED[kind].format(one) for one in values]
            self._embedded[values] = self._models.clip.embed_distinct(texts, self._settings.batch_size)
        scores = self._embedded[values] @ self._targets[picture]
        return [values[int(at)] for at in np.argsort(-scores, kind="stable")]

    @lru_cache(maxsize=10_000)
    def _values(self, value: str) -> tuple[str, ...]:
        word = value.lower()
        if word not in self._by:
            return ()
        name, number = self._by[word]
        g = self._lexicon.groups[name]
        order = sorted(range(len(g.values)), key=lambda n: (abs(n - number), n))
        return tuple(g.values[n][0] for n in order if n != number)
