"""Scores of bench-effect: arms, tiers of prompts, intervals and figures beside their goals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sur_adapter.evaluation.bootstrap import bootstrap
from sur_adapter.evaluation.config import Interval
from sur_adapter.evaluation.evaluate import PAPER_CATEGORIES, judge_files
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.kid import kid, paired_kernel
from sur_adapter.evaluation.prompts import by_category, read_eval_prompts
from tests.bench.effect_arms import ATTACH, CEILING, COMPARISONS, FLOOR, GOALS, OURS, TRANSLATE, Arm, Comparison
from tests.bench.effect_job import Job
from tests.bench.figures import Figure

#: The categories of the mean that tiers are compared by, of equal weight.
HEADLINE = (*PAPER_CATEGORIES, "subject")
#: What the base model must get right on complex prompts for the comparison to mean anything.
CEILING_GOALS = {"subject": 0.85, "action": 0.85, "colour": 0.85, "counting": 0.70}
#: The gain over the base on the demo's own sentences that was measured before: in the mean of the paper's categories.
FIRST_TIER, FIRST_TIER_GAIN = "a", 0.183


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A file of prompts: ``places``, category -> indices of its prompts; ``real``: the judge's score on the true
    pictures, by category, empty if the file has none."""

    places: dict[str, list[int]]
    real: dict[str, float] = field(default_factory=dict)

    @property
    def headline(self) -> list[str]:
        """Those of HEADLINE that the file has; all of its categories if it has none of them."""
        return [name for name in HEADLINE if name in self.places] or list(self.places)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An arm's results. ``scores``, tier -> [training seeds, prompts], each the mean over the noise seeds; ``kernels``,
    tier -> [prompts, prompts], the mean over the training seeds (see ``kid``); ``weights``: how many were trained."""

    arm: Arm
    seeds: tuple[int, ...]
    scores: dict[str, np.ndarray]
    kernels: dict[str, Tensor]
    weights: int = 0
    training_seconds: float = 0.0

    @property
    def trained(self) -> bool:
        return self.arm.training is not None


class Effect:
    """All outcomes on all tiers. A difference is paired: by prompt and noise, and by training seed."""

    def __init__(self, outcomes: Sequence[Outcome], tiers: dict[str, Tier]) -> None:
        self.outcomes = {one.arm.name: one for one in outcomes}
        self.tiers = tiers

    @classmethod
    def read(cls, jobs: Sequence[Job]) -> Effect:
        """Read the files of finished jobs, which share their prompts and judge."""
        judge = load_judge(jobs[0].judge)
        tiers, real_features = {}, {}
        for name, file in jobs[0].prompts.items():
            prompts = read_eval_prompts(file)
            places = by_category(prompts)
            tiers[name] = Tier(places=places)
            if all(one.image for one in prompts):
                real = judge_files(judge, np.array([[one.image for one in prompts]], dtype=object), prompts)
                assert real.features is not None
                real_features[name] = real.features[0]
                scores = {category: float(real.scores[:, at].mean()) for category, at in places.items()}
                tiers[name] = Tier(places=places, real=scores)
        arms = {job.arm.name: job.arm for job in jobs}
        outcomes = [_outcome(arm, [job for job in jobs if job.arm == arm], real_features) for arm in arms.values()]
        return cls(outcomes, tiers)

    def mean(self, arm: str, tier: str, categories: Sequence[str] = ()) -> Interval:
        """An arm's mean over categories of equal weight; by default the tier's headline."""
        return self._interval(self.outcomes[arm].scores[tier], tier, categories)

    def difference(self, arm: str, other: str, tier: str, categories: Sequence[str] = ()) -> Interval:
        """One arm's mean minus another's. Training seeds that only one of them has do not count; an arm that is not
        trained meets every seed of the other."""
        one, two = self.outcomes[arm], self.outcomes[other]
        scores = one.scores[tier], two.scores[tier]
        if one.trained and two.trained:
            shared = _shared(one, two)
            scores = (
                scores[0][[one.seeds.index(seed) for seed in shared]],
                scores[1][[two.seeds.index(seed) for seed in shared]],
            )
        return self._interval(scores[0] - scores[1], tier, categories)

    def kid(self, arm: str, tier: str, other: str | None = None) -> Interval | None:
        """An arm's KID, or its difference from another's; None if the tier has no true pictures."""
        kernels = self.outcomes[arm].kernels
        if tier not in kernels:
            return None
        return kid(kernels[tier] - self.outcomes[other].kernels[tier] if other else kernels[tier])

    def has(self, comparison: Comparison) -> bool:
        """Whether both arms were run, with a training seed that both have, and so was the tier."""
        one, two = self.outcomes.get(comparison.arm), self.outcomes.get(comparison.other)
        if one is None or two is None or comparison.tier not in ("", *self.tiers):
            return False
        return bool(_shared(one, two)) or not (one.trained and two.trained)

    @property
    def comparisons(self) -> list[Comparison]:
        return [one for one in COMPARISONS if self.has(one)]

    @property
    def adapter(self) -> str | None:
        """The arm that the goals are about: attach, or without it the adapter that distils."""
        return next((name for name in (TRANSLATE, ATTACH, OURS) if name in self.outcomes), None)

    def figures(self) -> list[Figure]:
        """The figures of arms and tiers that were run."""
        figures = []
        if CEILING in self.outcomes and FIRST_TIER in self.tiers:
            figures += [
                Figure(f"complex_{name}", self.mean(CEILING, FIRST_TIER, [name]).mean, ">=", least)
                for name, least in CEILING_GOALS.items()
            ]
        for goal in filter(self.has, GOALS):
            name = f"{goal.tier}: {goal.arm} - {goal.other}"
            figures.append(Figure(name, self.difference(goal.arm, goal.other, goal.tier).mean, ">=", goal.goal))
        adapter = self.adapter
        if adapter is None or FLOOR not in self.outcomes:
            return figures
        if FIRST_TIER in self.tiers:
            gain = self.difference(adapter, FLOOR, FIRST_TIER, PAPER_CATEGORIES).mean
            figures.append(
                Figure(f"{FIRST_TIER}: gain_over_base", round(gain, 9), ">=", FIRST_TIER_GAIN)
            )  # rounded against float error
        distances = {tier: self.kid(adapter, tier, FLOOR) for tier in self.tiers}
        figures += [
            Figure(f"{tier}: kid_more_than_base", distance.mean, "<=", 0.0)
            for tier, distance in distances.items()
            if distance is not None
        ]
        return figures

    def _interval(self, scores: np.ndarray, tier: str, categories: Sequence[str]) -> Interval:
        places = self.tiers[tier].places
        return bootstrap(*(scores[:, places[name]] for name in categories or self.tiers[tier].headline))


def _shared(one: Outcome, other: Outcome) -> list[int]:
    return [seed for seed in one.seeds if seed in other.seeds]


def _outcome(arm: Arm, jobs: list[Job], real: dict[str, Tensor]) -> Outcome:
    documents: list[dict[str, Any]] = [json.loads(job.file.read_text(encoding="utf-8")) for job in jobs]
    tiers = list(jobs[0].prompts)
    scores = {
        tier: np.stack([np.mean(document["tiers"][tier]["scores"], axis=0) for document in documents]) for tier in tiers
    }
    kernels = {
        tier: torch.stack([
            paired_kernel(real[tier], _features(job.folder / f"features-{tier}.npy")) for job in jobs
        ]).mean(0)
        for tier in real
    }  # fmt: skip
    return Outcome(
        arm=arm,
        seeds=tuple(job.seed for job in jobs),
        scores=scores,
        kernels=kernels,
        weights=int(documents[0]["weights"]),
        training_seconds=float(np.mean([document["training_seconds"] for document in documents])),
    )


def _features(file: Path) -> Tensor:
    return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
