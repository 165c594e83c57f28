"""Progress of a stage by record: its units that have ended, and the progress files of those that run."""

from __future__ import annotations

import time
from collections.abc import Iterable

from surd.flows.listener import RecordProgress
from surd.pipeline.build.progress import live_share
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.runner.plan import Planner
from surd.pipeline.runner.run_unit import Outcome
from surd.pipeline.stages import Stage


class RecordWatch:
    """How many records of a stage are done. Of a stage that runs as one unit there is nothing to count."""

    def __init__(self, stage: Stage, planner: Planner, done: Iterable[Outcome] = ()) -> None:
        self._stage, self._planner = stage.name, planner
        self._samples = (
            [shard.count for shard in shard_manifest(planner.build).shards] if stage.scope == "shard" else []
        )
        self.total, at_once = sum(self._samples), planner.config.workers if stage.scope == "partition" else 1
        if stage.scope == "partition":
            self.total = planner.records()
        pace = planner.pace(stage)
        self._pace = pace * at_once if pace else None
        self._ended = self._shown = self._resumed = sum(self._rows_of(outcome) for outcome in done)
        self._running: dict[int, int] = {}  # unit -> records done when it last told
        self._since = time.time()
        self._started = self._at = time.monotonic()

    def unit_started(self, unit: int) -> None:
        """Count a unit, as far as it tells, until it ends."""
        self._running[unit] = 0

    def unit_done(self, outcome: Outcome) -> None:
        """Count a unit by its rows."""
        self._running.pop(outcome.unit, None)
        self._ended += self._rows_of(outcome)
        self._resumed += self._rows_of(outcome) if outcome.skipped else 0

    def look(self) -> None:
        """Read what running units tell."""
        if self.total:
            self._running = {unit: self._reached(unit) for unit in self._running}

    def now(self) -> RecordProgress:
        """The progress so far; ``done`` is never less than it was, also where a unit begins anew after a fault."""
        done = self._ended + sum(self._running.values())
        if done > self._shown:
            self._shown, self._at = done, time.monotonic()
        return RecordProgress(
            done=self._shown,
            total=self.total,
            resumed=self._resumed,
            started=self._started,
            at=self._at,
            pace=self._pace,
        )

    def _reached(self, unit: int) -> int:
        """Records of a running unit that are done."""
        share = live_share(self._planner.build, self._stage, unit, self._since)
        return int(share * (self._samples[unit] if self._samples else self._planner.rows(unit))) if share else 0

    def _rows_of(self, outcome: Outcome) -> int:
        return self._samples[outcome.unit] if self._samples else outcome.rows
