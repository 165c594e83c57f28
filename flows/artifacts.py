"""A running build in the Prefect UI: log lines, a progress bar, a funnel table, a link to the report."""

from __future__ import annotations

import logging
import re
import time
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from surd.flows.build_record import without_secrets
from surd.flows.fetch_watch import format_progress, host_rows
from surd.flows.listener import Listener, RecordProgress, StageSummary
from surd.pipeline.acquisition.progress import MOST_HOSTS, FetchProgress
from surd.pipeline.inspection.summary import funnel
from surd.pipeline.stages import STAGES
from surd.schemas import SurdError
from surd.schemas.paths import absolute

TABLE_EVERY = 30.0  # seconds between two tables of hosts while fetch is running
BAR_EVERY = 1.0  # seconds between two positions of the bar: each is a request, and units end by the hundred


class RunPage(Listener):
    """Publishes a build's progress on the page of its flow run."""

    def __init__(self) -> None:
        self._log = get_run_logger()
        self._ended = 0
        self._shares: dict[str, float] = {}  # of the stages under way
        self._by_record = {"fetch"}  # stages whose shares are not by unit
        self._table_published = self._bar_published = time.monotonic()
        self._artifact = create_progress_artifact(0.0, key="surd-progress", description="Stages of the build")

    def stage_started(self, stage: str, units: int) -> None:
        self._shares[stage] = 0.0

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage not in self._by_record or done == total:
            self._show(stage, done / max(total, 1))

    def records(self, stage: str, progress: RecordProgress) -> None:
        self._by_record.add(stage)
        self._show(stage, progress.done / max(progress.total, 1))

    def fetching(self, progress: FetchProgress) -> None:
        """The bar moves with every call; the table of hosts follows every half minute, and when fetch is done."""
        images = progress.all_hosts.images
        is_done, now = images == progress.total, time.monotonic()
        self._shares["fetch"] = images / max(progress.total, 1)
        self._publish()
        if is_done or now - self._table_published >= TABLE_EVERY:
            self._table_published = now
            line = format_progress(progress)
            create_table_artifact([*host_rows(progress, MOST_HOSTS)], key="surd-fetch", description=line)
            self._log.info("fetch: %d of %d images, %s", images, progress.total, line)

    def stage_done(self, stage: str, summary: StageSummary) -> None:
        self._ended += 1
        self._shares.pop(stage, None)
        self._publish()
        reasons = "".join(f", {count} {reason}" for reason, count in summary.rejected.most_common())
        self._log.info("%s: %d unit(s), %d already done%s", stage, summary.units, summary.skipped, reasons)
        if summary.note:
            self._log.warning("%s", summary.note)

    def _show(self, stage: str, share: float) -> None:
        self._shares[stage] = share
        if time.monotonic() - self._bar_published >= BAR_EVERY:
            self._publish()

    def _publish(self) -> None:
        """Publish how much of the build is done."""
        self._bar_published = time.monotonic()
        done = (self._ended + sum(self._shares.values())) / len(STAGES)
        assert isinstance(self._artifact, UUID), "in a sync flow the call returns its id"
        update_progress_artifact(self._artifact, progress=min(100.0, round(100 * done, 1)))


def publish_result(summary: dict[str, Any]) -> None:
    """The funnel as a table, and the report as a link with a Markdown summary beside it.

    A browser does not open a local file from a page served over HTTP, so the path is shown for copying.
    """
    lines = funnel(summary)
    table = [{"rows": name, "count": count, "meaning": meaning} for name, count, meaning in lines]
    create_table_artifact(table, key="surd-funnel", description="What became of every source record")
    report = summary["report"]
    link = report if "://" in report else absolute(report).as_uri()
    create_link_artifact(
        link, link_text=re.sub(r"([\\`*_<>\[\]])", r"\\\1", report), key="surd-report", description="The build's report"
    )
    text = "\n".join(f"| {name} | {count} | {meaning} |" for name, count, meaning in lines)
    create_markdown_artifact(
        f"# Build\n\n| rows | count | meaning |\n| --- | ---: | --- |\n{text}\n\nReport: {_as_code(report)}\n",
        key="surd-summary",
        description="The build in one table",
    )


def redact_run_parameters() -> None:
    """Take passwords and keys out of the parameters that Prefect keeps of this run."""
    if flow_run.id is None:
        return
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(flow_run.id))
        redacted: list[str] = []
        shown = without_secrets(run.parameters, redacted)
        if redacted:
            client.update_flow_run(run.id, parameters=shown)


def _as_code(text: str) -> str:
    """A text as code in Markdown, whatever backticks it holds."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"{fence}{text}{fence}"


def hide_user_errors() -> None:
    """Keep Prefect from logging a SurdError again, with a traceback: the failed state already shows its message."""
    logging.getLogger("prefect.flow_runs").addFilter(_is_not_user_error)


def _is_not_user_error(entry: logging.LogRecord) -> bool:
    return not (entry.exc_info and isinstance(entry.exc_info[1], SurdError))
