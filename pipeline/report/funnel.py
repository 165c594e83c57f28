"""The figures of a report: how many rows each stage rejected and why, and what is measured over the kept samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from surd.pipeline.report.entries import cut
from surd.pipeline.report.records import Record
from surd.pipeline.report.tallies import Ranking, Tallies
from surd.schemas import Reason, Selected

_RANKED = {"sizes": 6, "keywords": 30, "methods": 5, "tools": 6, "loras": 12}  # how many of each are shown


@dataclass(frozen=True)
class Step:
    """One stage of the funnel: rows that came in, what it rejected and why, rows that went on."""

    stage: str
    came: int
    rejected: list[tuple[Reason, int]]
    went_on: int


@dataclass(frozen=True)
class Facts:
    """What is measured over the kept samples: of how many the simple prompt fits better, and what they have most."""

    gains: int
    better: int
    sizes: Ranking
    keywords: Ranking
    methods: Ranking
    tools: Ranking
    loras: Ranking


class FactTally:
    """Adds up the facts of kept samples, and the numbers of their histograms."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies
        self._gains = self._better = 0

    def add(self, records: Iterable[Record]) -> None:
        """Count the kept samples of a partition."""
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in _RANKED}
        for record in records:
            prompts, pair, cleaned = record.corrected, record.pair, record.cleaned
            texts = {"simple": prompts.simple, "complex": cleaned.complex}
            scores = {"simple": prompts.clip_simple, "complex": prompts.clip_complex}
            for name, text in texts.items():
                self._tallies.add(f"words_{name}", [len((text or "").split())])
            for name, score in scores.items():
                self._tallies.add(f"score_{name}", [] if score is None else [score])
            if prompts.clip_simple is not None and prompts.clip_complex is not None:
                gain = prompts.clip_simple - prompts.clip_complex
                self._tallies.add("gain", [gain])
                self._gains += 1
                self._better += gain > 0
            counts["sizes"][f"{pair.width} × {pair.height}"] += 1
            counts["keywords"].update({cut(word.lower(), 60) for word in cleaned.keywords or ()})
            counts["methods"][prompts.method or "unknown"] += 1
            counts["tools"][cut(pair.tool or "not stated", 60)] += 1
            counts["loras"].update({cut(name, 60) for name in cleaned.loras or ()})
        for kind, of_kind in counts.items():
            self._tallies.count(kind, of_kind)

    def facts(self) -> Facts:
        """All that was added, once the tallies are whole."""
        ranked = {kind: self._tallies.ranking(kind, limit) for kind, limit in _RANKED.items()}
        return Facts(gains=self._gains, better=self._better, **ranked)


def funnel(stages: Iterable[str], verdicts: Iterable[Selected]) -> list[Step]:
    """One step for each of these stages, in order. What is rejected and what is left add up to what was collected."""
    verdicts_of = Counter((row.rejected_by, row.reason) for row in verdicts)
    steps, left = [], verdicts_of.total()
    for stage in stages:
        rejected = [(reason, count) for reason in Reason if (count := verdicts_of[stage, reason])]
        came, left = left, left - sum(count for _, count in rejected)
        steps.append(Step(stage, came, rejected, left))
    return steps
