"""The events of a running build, for whoever shows them: a terminal, a log, a page of the Prefect UI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from surd.pipeline.acquisition.progress import FetchProgress
from surd.pipeline.runner.run_unit import Outcome


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """How many units a finished stage has, how many were already done, and the rows it rejected, by reason.

    ``note``: what is to be said of its outputs, where most cannot be used.
    """

    units: int
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    note: str | None = None

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], note: str | None = None) -> Self:
        """The outcomes of a stage's units, summed up."""
        return cls(
            units=len(outcomes),
            skipped=sum(outcome.skipped for outcome in outcomes),
            rejected=sum((Counter(outcome.rejected) for outcome in outcomes), Counter()),
            note=note,
        )


class Listener:
    """Receives the events of a build; this one ignores them. Several stages may be under way at once."""

    def stage_started(self, stage: str, units: int) -> None:
        """A stage begins; ``units`` is how many partitions or shards it has."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """``done`` of the ``total`` units of a stage that has started have succeeded."""

    def fetching(self, progress: FetchProgress) -> None:
        """Progress of fetch by image, about once a second, and once more after each of its units."""

    def stage_done(self, stage: str, summary: StageSummary) -> None:
        """All units of a stage succeeded."""

    def close(self) -> None:
        """No more events follow."""


SILENT = Listener()
