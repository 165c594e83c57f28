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


@dataclass(frozen=True, kw_only=True)
class RecordProgress:
    """How many records of a stage are done: those of units that have ended, and of running ones as far as they tell,
    which is about every second. A unit that goes through its records more than once has done as many as its share.

    ``done`` of ``total``; of them ``resumed`` by an earlier run, which do not count in the speed. ``started`` and
    ``at``: when the stage began, and when ``done`` was reached, in seconds of ``time.monotonic``. ``pace``: records a
    second of an earlier run of this build; None: there was none.
    """

    done: int
    total: int
    resumed: int
    started: float
    at: float
    pace: float | None = None

    @property
    def rate(self) -> float | None:
        """Records a second: of this run once a record is done, else of an earlier one; None: neither."""
        if (done := self.done - self.resumed) > 0:
            return done / max(self.at - self.started, 1e-3)
        return self.pace

    def seconds_left(self, now: float) -> float | None:
        """By ``rate``, at a time; None: not known."""
        rate = self.rate
        if not rate:
            return None
        since = self.at if self.done > self.resumed else self.started
        return max(0.0, (self.total - self.done) / rate - (now - since))


class Listener:
    """Receives the events of a build; this one ignores them. Several stages may be under way at once."""

    def stage_started(self, stage: str, units: int) -> None:
        """A stage begins; ``units`` is how many partitions or shards it has."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """``done`` of the ``total`` units of a stage that has started have succeeded."""

    def records(self, stage: str, progress: RecordProgress) -> None:
        """The same by record, of stages over partitions and shards but fetch: when they start, about every second, and
        as units end. ``progress.done`` never gets less."""

    def fetching(self, progress: FetchProgress) -> None:
        """Progress of fetch by image, about once a second, and once more after each of its units."""

    def stage_done(self, stage: str, summary: StageSummary) -> None:
        """All units of a stage succeeded."""

    def close(self) -> None:
        """No more events follow."""


SILENT = Listener()
