"""The figures of a report: how many rows each stage rejected and why, and what is measured over the kept samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from surd.pipeline.report.entries import cut
from surd.pipeline.report.records import Record
from surd.schemas import Reason, Selected


@dataclass(frozen=True)
class Step:
    """One stage of the funnel: rows that came in, what it rejected and why, rows that went on."""

    stage: str
    came: int
    rejected: list[tuple[Reason, int]]
    went_on: int


@dataclass
class Facts:
    """What is measured over the kept samples."""

    scores: dict[str, list[float]] = field(default_factory=lambda: {"simple": [], "complex": []})
    words: dict[str, list[float]] = field(default_factory=lambda: {"simple": [], "complex": []})
    gains: list[float] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    keywords: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    loras: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one kept sample."""
        prompts, pair = record.corrected, record.pair
        for name, text, score in (
            ("simple", prompts.simple, prompts.clip_simple),
            ("complex", record.cleaned.complex, prompts.clip_complex),
        ):
            self.words[name].append(len((text or "").split()))
            if score is not None:
                self.scores[name].append(score)
        if prompts.clip_simple is not None and prompts.clip_complex is not None:
            self.gains.append(prompts.clip_simple - prompts.clip_complex)
        self.sizes[f"{pair.width} × {pair.height}"] += 1
        self.keywords.update({cut(word.lower(), 60) for word in record.cleaned.keywords or ()})
        self.methods[prompts.method or "unknown"] += 1
        self.tools[cut(pair.tool or "not stated", 60)] += 1
        self.loras.update({cut(name, 60) for name in record.cleaned.loras or ()})


def funnel(stages: Iterable[str], verdicts: Iterable[Selected]) -> list[Step]:
    """One step for each of these stages, in order. What is rejected and what is left add up to what was collected."""
    rows = list(verdicts)
    lost = Counter((row.rejected_by, row.reason) for row in rows if row.reason is not None)
    steps, left = [], len(rows)
    for stage in stages:
        rejected = [(reason, lost[stage, reason]) for reason in Reason if lost[stage, reason]]
        came, left = left, left - sum(count for _, count in rejected)
        steps.append(Step(stage, came, rejected, left))
    return steps
