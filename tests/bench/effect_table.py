"""Results of bench-effect: a table, figures beside their goals, and a document."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from sur_adapter.evaluation.bootstrap import bootstrap
from sur_adapter.evaluation.config import Interval
from sur_adapter.evaluation.evaluate import PAPER_CATEGORIES, judge_files
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.kid import kid, paired_kernel
from sur_adapter.evaluation.prompts import CATEGORIES, by_category, read_eval_prompts
from tests.bench.effect_arms import CEILING, FLOOR, OURS, Arm
from tests.bench.effect_job import Job
from tests.bench.figures import Figure

#: What the base model must get right on complex prompts for the comparison to mean anything.
CEILING_GOALS = {"subject": 0.85, "action": 0.85, "colour": 0.85, "counting": 0.70}
GAIN, SHARE_OF_GAP = 0.20, 0.5
HEAD = ("arm", "action", "colour", "counting", "mean of the three", "more than base", "relation", "subject", "style",
        "KID x1000", "KID, more than base")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An arm's results: ``scores`` [training seeds, prompts], each the mean over the noise seeds; ``kernels``: one
    [prompts, prompts] per training seed (see ``kid``)."""

    arm: Arm
    scores: np.ndarray
    kernels: list[Tensor]
    training: dict[str, Any]
    seconds: float

    @property
    def kernel(self) -> Tensor:
        return torch.stack(self.kernels).mean(0)


class Effect:
    """All outcomes on one file of prompts."""

    def __init__(self, outcomes: list[Outcome], places: dict[str, list[int]], real: dict[str, float]) -> None:
        self.outcomes = {one.arm.name: one for one in outcomes}
        self.places = places
        self.real = real

    @classmethod
    def read(cls, jobs: list[Job]) -> Effect:
        """Read the files of finished jobs."""
        prompts = read_eval_prompts(jobs[0].prompts)
        judge = load_judge(jobs[0].judge)
        real = judge_files(judge, np.array([[one.image for one in prompts]], dtype=object), prompts)
        assert real.features is not None
        places = by_category(prompts)
        arms = {job.arm.name: job.arm for job in jobs}
        outcomes = [_outcome(arm, [job for job in jobs if job.arm == arm], real.features[0]) for arm in arms.values()]
        return cls(outcomes, places, {name: float(real.scores[:, at].mean()) for name, at in places.items()})

    def mean(self, arm: str, *categories: str) -> Interval:
        """An arm's mean over categories of equal weight."""
        return bootstrap(*(self.outcomes[arm].scores[:, self.places[name]] for name in categories))

    def gain(self, arm: str) -> Interval:
        """An arm's mean over action, colour and counting, minus the base model's on the same prompts and noise."""
        difference = self.outcomes[arm].scores - self.outcomes[FLOOR].scores
        return bootstrap(*(difference[:, self.places[name]] for name in PAPER_CATEGORIES))

    def figures(self) -> list[Figure]:
        """The figures of arms that were run."""
        figures = []
        if CEILING in self.outcomes:
            figures += [
                Figure(f"complex_{name}", self.mean(CEILING, name).mean, ">=", least)
                for name, least in CEILING_GOALS.items()
            ]
        if {CEILING, FLOOR, OURS} <= set(self.outcomes):
            goal = max(0.0, min(GAIN, SHARE_OF_GAP * self.gain(CEILING).mean))
            figures += [
                Figure(
                    "gain_over_base", round(self.gain(OURS).mean, 9), ">=", round(goal, 9)
                ),  # rounded against float error
                Figure("kid_more_than_base", self._kid_difference(OURS).mean, "<=", 0.0),
            ]
        return figures

    def _kid_difference(self, arm: str) -> Interval:
        return kid(self.outcomes[arm].kernel - self.outcomes[FLOOR].kernel)

    @cached_property
    def rows(self) -> list[tuple[str, ...]]:
        """One per arm, with cells as in HEAD."""
        rows = []
        for name, one in self.outcomes.items():
            cells = {category: _cell(self.mean(name, category), 100) for category in CATEGORIES}
            compared = FLOOR in self.outcomes and name != FLOOR
            rows.append((
                name,
                *(cells[category] for category in PAPER_CATEGORIES),
                _cell(self.mean(name, *PAPER_CATEGORIES), 100),
                _cell(self.gain(name), 100, "+") if compared else "",
                *(cells[category] for category in ("relation", "subject", "style")),
                _cell(kid(one.kernel), 1000),
                _cell(self._kid_difference(name), 1000, "+") if compared else "",
            ))  # fmt: skip
        return rows

    def table(self) -> Table:
        """The table for the terminal."""
        table = Table(title="Semantic accuracy, %, with half of the 95% interval", title_justify="left")
        for name in HEAD:
            table.add_column(name)
        for row in self.rows:
            table.add_row(*row)
        return table

    def document(self, command: str, args: dict[str, Any]) -> str:
        """Markdown: the set-up, the table, the figures."""
        prompts = sum(len(at) for at in self.places.values())
        runs = len(self.outcomes[OURS].scores) if OURS in self.outcomes else "?"
        real = ", ".join(f"{name} {100 * share:.1f}" for name, share in self.real.items())
        lines = [
            "# What the adapter does, and which part of it",
            "",
            f"Written by `{command}` on {_hardware()}, PyTorch {torch.__version__}.",
            "",
            f"{prompts} prompts of scenes never trained on (world {args['prompt_seed']}), "
            f"pictures per prompt: {args['noise_seeds']}; the same noise in every arm, {args['drawing_steps']} steps, "
            f"guidance {args['guidance_scale']:g}. Trained arms: {runs} training seeds, each with"
            f" {', '.join(f'{name} {value}' for name, value in args['recipe'].items())}, except as its row says.",
            f"The judge, a classifier that no training saw, on the true pictures of the same prompts: {real}.",
            "A picture is right in a category when the judge finds every such fact of the prompt. ± is half of the",
            "95% interval: a bootstrap over training seeds and prompts, paired where arms are compared; for KID a",
            "jackknife over prompts. KID is in the judge's features, not Inception's: compare it within this table.",
            "",
            *_markdown(HEAD, self.rows),
            "",
            *(f"- **{one.arm.name}**: {one.arm.note}" for one in self.outcomes.values() if one.arm.note),
            "",
            *_markdown(
                ("figure", "value", "goal", "met"),
                [(one.name, f"{one.value:.3f}", one.goal, "yes" if one.met else "**no**") for one in self.figures()],
            ),
            "",
        ]
        return "\n".join(lines)


def _outcome(arm: Arm, jobs: list[Job], real_PD: Tensor) -> Outcome:
    documents = [json.loads(job.file.read_text(encoding="utf-8")) for job in jobs]
    features = [np.load(job.out / f"{arm.slug}-{job.seed}" / "features.npy", allow_pickle=False) for job in jobs]
    return Outcome(
        arm=arm,
        scores=np.stack([np.mean(document["scores"], axis=0) for document in documents]),
        kernels=[paired_kernel(real_PD, torch.from_numpy(each.astype(np.float32))) for each in features],
        training=documents[0]["training"],
        seconds=float(np.mean([document["seconds"] for document in documents])),
    )


def _cell(interval: Interval, scale: float, sign: str = "") -> str:
    return f"{scale * interval.mean:{sign}.1f} ± {scale * (interval.high - interval.low) / 2:.1f}"


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = (head, ("---",) * len(head), *rows)
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _hardware() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cpu = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{len(cpu)} cores of {cpu[0]}" if cpu else platform.processor() or platform.machine()


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
