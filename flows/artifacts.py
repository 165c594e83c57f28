"""Turns a build under way into what the Prefect UI shows: log lines, a progress bar, a funnel table, the report."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from surd.flows.cli.fetch_table import table, tell
from surd.flows.listener import Listener
from surd.pipeline.acquisition.progress import MOST_HOSTS, FetchProgress
from surd.pipeline.inspection.summary import funnel
from surd.pipeline.runner.run_unit import Outcome
from surd.pipeline.stages import STAGES
from surd.schemas import SurdError

TABLE_EVERY = 30.0  # seconds between two tables of hosts while fetch is at work


class RunPage(Listener):
    """Publishes a build's progress on the page of its flow run."""

    def __init__(self) -> None:
        self._log = get_run_logger()
        self._stages, self._units, self._done, self._told = 0, 1, 0, time.monotonic()
        self._artifact = create_progress_artifact(0.0, key="surd-progress", description="Stages of the build")

    def stage_started(self, stage: str, units: int) -> None:
        self._units, self._done = max(units, 1), 0

    def unit_done(self, outcome: Outcome) -> None:
        self._done += 1
        self._publish()

    def fetching(self, progress: FetchProgress) -> None:
        """The bar moves with every word; the table of hosts is published when it is done, and now and then before."""
        images = progress.all_hosts.images
        is_done, now = images == progress.total, time.monotonic()
        self._publish(within=images / max(progress.total, 1))
        if is_done or now - self._told >= TABLE_EVERY:
            self._told = now
            create_table_artifact([*table(progress, MOST_HOSTS)], key="surd-fetch", description=tell(progress))
            self._log.info("fetch: %d of %d images, %s", images, progress.total, tell(progress))

    def stage_done(self, stage: str, outcomes: list[Outcome]) -> None:
        self._stages, self._done = self._stages + 1, 0
        self._publish()
        skipped = sum(outcome.skipped for outcome in outcomes)
        rejected = sum((Counter(outcome.rejected) for outcome in outcomes), Counter())
        reasons = "".join(f", {count} {reason}" for reason, count in sorted(rejected.items()))
        self._log.info("%s: %d unit(s), %d already done%s", stage, len(outcomes), skipped, reasons)

    def _publish(self, within: float = 0.0) -> None:
        """How much of the build is done; ``within`` the stage at work, where that is known better than by its units."""
        done = (self._stages + max(within, self._done / self._units)) / len(STAGES)
        assert isinstance(self._artifact, UUID), "in a sync flow the artifact is there at once"
        update_progress_artifact(self._artifact, progress=min(100.0, round(100 * done, 1)))


def publish_result(summary: dict[str, Any]) -> None:
    """The funnel as a table, and the report as a link with a Markdown summary beside it.

    A browser does not open a local file from a page served over HTTP, so the path stands there to be copied.
    """
    lines = funnel(summary)
    table = [{"rows": name, "count": count, "meaning": meaning} for name, count, meaning in lines]
    create_table_artifact(table, key="surd-funnel", description="What became of every source record")
    report = summary["report"]
    link = report if "://" in report else f"file://{report}"
    create_link_artifact(link, link_text=report, key="surd-report", description="The build's report")
    text = "\n".join(f"| {name} | {count} | {meaning} |" for name, count, meaning in lines)
    create_markdown_artifact(
        f"# Build\n\n| rows | count | meaning |\n| --- | ---: | --- |\n{text}\n\nReport: `{report}`\n",
        key="surd-summary",
        description="The build in one table",
    )


def hide_refusals() -> None:
    """Keep Prefect from logging a SurdError with a traceback when the process ends: the failed state has told it."""
    logging.getLogger("prefect.flow_runs").addFilter(_is_news)


def _is_news(entry: logging.LogRecord) -> bool:
    return not (entry.exc_info and isinstance(entry.exc_info[1], SurdError))
