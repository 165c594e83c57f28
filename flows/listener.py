"""What a running build says of itself, and who listens: a terminal, a log, a page of the Prefect UI."""

from __future__ import annotations

from contextvars import ContextVar

from surd.pipeline.acquisition.progress import FetchProgress
from surd.pipeline.runner.run_unit import Outcome


class Listener:
    """Hears how a build goes, stage by stage; this one ignores it."""

    def stage_started(self, stage: str, units: int) -> None:
        """A stage begins; ``units`` is how many partitions or shards it has."""

    def unit_done(self, outcome: Outcome) -> None:
        """One unit ended well."""

    def fetching(self, progress: FetchProgress) -> None:
        """How far fetch is, about once a second, and once more when it is done."""

    def stage_done(self, stage: str, outcomes: list[Outcome]) -> None:
        """All units of a stage ended well."""

    def close(self) -> None:
        """Nothing more will be said."""


SILENT = Listener()
LISTENER: ContextVar[Listener] = ContextVar("LISTENER", default=SILENT)
"""The listener of whoever runs the flow in process; a flow's parameters could not carry it."""
