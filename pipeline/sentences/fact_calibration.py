"""How probable facts are, from what witnesses say of facts whose truth is known.

A witness says yes too easily, and how easily differs by model and by kind of fact (arXiv 2412.13989). So what its
answers mean is measured on the build itself: a fact on which caption and prompt agree is almost surely true of its
picture, and a fact of other pictures put in its place is almost surely false. Between these two groups a logistic
regression turns scores into a likelihood ratio; the share of true facts among those that only the caption, or only the
prompt, states is then estimated from their own scores by expectation maximisation (Saerens et al. 2002, Neural
Computation 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

Array = npt.NDArray[np.float64]
#: With fewer facts of either group the regression would follow single answers.
LEAST = 60
#: Facts of one origin below which their share of true ones is not estimated from them.
_LEAST_OF_ORIGIN = 20
_FARTHEST = 8.0  # log odds beyond which a witness's certainty says nothing more
_RIDGE = 1.0
_ROUNDS = 100
#: The share of true facts by who states them, where it is not measured; as if so many facts had been seen before.
PRIORS = {
    "both": 0.97, "caption": 0.85, "prompt": 0.7, "disputed caption": 0.5, "disputed prompt": 0.5, "neither": 0.03,
}  # fmt: skip
_PRIOR_FACTS = 20.0


@dataclass(frozen=True)
class FactScores:
    """What the witnesses said of facts: ``scores`` [facts, witnesses] in log odds, NaN without an answer; ``kinds``
    [facts] the kind of each; ``origins`` [facts] who states it: both, caption, prompt or neither; caption and
    prompt are disputed where the other states something else of that kind."""

    scores: Array
    kinds: npt.NDArray[np.str_]
    origins: npt.NDArray[np.str_]


@dataclass
class FactCalibration:
    """Turns scores into probabilities. Uncalibrated, it takes the witnesses at their word."""

    kinds: list[str] = field(default_factory=list)
    weights: Array | None = None
    priors: dict[str, float] = field(default_factory=lambda: dict(PRIORS))
    priors_of_kinds: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def fitted(self) -> bool:
        """Whether there were facts enough to measure on."""
        return self.weights is not None

    def fit(self, true: FactScores, false: FactScores, all_facts: FactScores) -> None:
        """Measure on facts that are almost surely true, and false, then the origins' shares on ``all_facts``.

        With fewer than ``LEAST`` facts of either group nothing changes.
        """
        if min(len(true.scores), len(false.scores)) < LEAST:
            return
        self.kinds = sorted(set(true.kinds) & set(false.kinds))
        features = np.concatenate([self._features(true), self._features(false)])
        labels = np.concatenate([np.ones(len(true.scores)), np.zeros(len(false.scores))])
        # Both groups count alike, so that the outcome is a likelihood ratio and not the ratio of the samples.
        counts = np.where(labels == 1, len(labels) / (2 * labels.sum()), len(labels) / (2 * (1 - labels).sum()))
        self.weights = _regression(features, labels, counts)
        ratios = self._ratios(all_facts)
        for origin in PRIORS:
            if origin != "neither" and (of_origin := ratios[all_facts.origins == origin]).size >= _LEAST_OF_ORIGIN:
                self.priors[origin] = _share_true(of_origin, PRIORS[origin])
                for kind in self.kinds:  # a prompt names things that are there, and styles that nobody sees
                    of_kind = ratios[(all_facts.origins == origin) & (all_facts.kinds == kind)]
                    self.priors_of_kinds[origin, kind] = _share_true(of_kind, self.priors[origin])

    def probabilities(self, facts: FactScores) -> Array:
        """[facts]: how probable it is that each is true."""
        names = zip(facts.origins.tolist(), facts.kinds.tolist(), strict=True)
        priors = [self.priors_of_kinds.get((origin, kind), self.priors[origin]) for origin, kind in names]
        prior = logit(np.array(priors))
        ratios: Array = expit(self._ratios(facts) + prior)
        return ratios

    def _ratios(self, facts: FactScores) -> Array:
        """[facts]: the log likelihood ratio of true and false."""
        if not len(facts.scores):
            return np.zeros(0)
        if self.weights is None:
            return _plain(facts.scores).sum(1)
        ratios: Array = self._features(facts) @ self.weights
        return ratios

    def _features(self, facts: FactScores) -> Array:
        """[facts, 1 + witnesses * (1 + kinds) + kinds]: scores, for all and for each kind by itself, and constants."""
        scores = _plain(facts.scores)
        of_kind = np.stack([facts.kinds == kind for kind in self.kinds], 1).astype(float)
        by_kind = (scores[:, :, None] * of_kind[:, None, :]).reshape(len(scores), -1)
        return np.concatenate([np.ones((len(scores), 1)), scores, of_kind, by_kind], 1)


def _plain(scores: Array) -> Array:
    return np.nan_to_num(np.clip(scores, -_FARTHEST, _FARTHEST), nan=0.0)


def _regression(features: Array, labels: Array, counts: Array) -> Array:
    """Logistic regression with a ridge on all but the constant; deterministic, from zero."""
    ridge = np.full(features.shape[1], _RIDGE)
    ridge[0] = 1e-6

    def loss(weights: Array) -> tuple[float, Array]:
        logits = features @ weights
        value = -(counts * (labels * log_expit(logits) + (1 - labels) * log_expit(-logits))).sum()
        gradient = features.T @ (counts * (expit(logits) - labels)) + ridge * weights
        return float(value + 0.5 * (ridge * weights**2).sum()), gradient

    found: Array = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def _share_true(ratios: Array, start: float) -> float:
    """The share of true facts that explains their likelihood ratios best, drawn a little towards ``start``."""
    share = start
    for _ in range(_ROUNDS):
        posterior = expit(ratios + logit(share))
        share = float((posterior.sum() + _PRIOR_FACTS * start) / (len(ratios) + _PRIOR_FACTS))
    return min(max(share, 0.001), 0.999)


def threshold(probabilities: Sequence[float], rate: float) -> float:
    """The least probability at which a stated fact stays, so that of those that stay a share ``rate`` is false.

    The facts least likely to be true go first, and no more of them than needed: 0.0 if all may stay.
    """
    ordered = np.sort(np.asarray(probabilities, float))
    if not ordered.size:
        return 0.0
    false = np.cumsum((1 - ordered)[::-1])[::-1]  # expected among the facts from here on
    rates = false / np.arange(len(ordered), 0, -1)
    within = np.flatnonzero(rates <= rate)
    return float(ordered[within[0]]) if within.size and within[0] > 0 else 0.0 if within.size else 1.0
