"""Progress of the fetch stage over all its partitions, as one line and as rows by host.

Rate, share of images kept, reasons of rejection and time left; the console and the Prefect UI show the same.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from surd.pipeline.acquisition.progress import FetchProgress, HostCount, from_file, from_rows
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import Outcome

SHOWN = 8  # hosts listed by name
_MB = 1_000_000


class FetchWatch:
    """Progress of one fetch stage: its finished partitions, and the progress files of those still running."""

    def __init__(self, build: Build, done: Iterable[Outcome] = ()) -> None:
        self._build = build
        self._started = time.time()
        marker = build.marker("collect", 0)
        self._total = marker.rows if marker else 0
        self._done = FetchProgress()
        self._units_done: set[int] = set()
        self._units = range(build.part_count())
        for outcome in done:
            self.unit_done(outcome)

    def unit_done(self, outcome: Outcome) -> None:
        """Count a finished partition by its rows, and no longer by its progress file."""
        self._units_done.add(outcome.unit)
        part = from_rows(self._build, outcome.unit)
        part.resumed = part.total if outcome.skipped else 0
        self._done.join(part)

    def now(self) -> FetchProgress:
        """The progress so far; ``total`` is the number of records of the build."""
        progress = FetchProgress(started=self._started)
        progress.join(self._done)
        for unit in self._units:
            if unit not in self._units_done and (part := from_file(self._build, unit, self._started)):
                progress.join(part)
        progress.total = self._total
        return progress


def format_progress(progress: FetchProgress) -> str:
    """The progress in one line: ``12.3 images/s, 96 % kept (30 http_error, 2 too_large), 0:01:20 left``."""
    counts, seconds = progress.all_hosts, max(time.time() - progress.started, 1e-3)
    if not counts.images:
        return "waiting for the first image"
    rate = (counts.images - progress.resumed) / seconds
    fields = [f"{rate:.1f} images/s", f"{share(counts)} kept{_in_brackets(counts.reasons)}"]
    if rate and counts.images < progress.total:
        fields.append(f"{clock((progress.total - counts.images) / rate)} left")
    return ", ".join(fields)


def host_rows(progress: FetchProgress, most: int = SHOWN) -> Iterator[dict[str, Any]]:
    """One row per host, the busiest first: host, images, kept, MB, reasons."""
    for host, count in progress.busiest(most):
        yield {
            "host": host,
            "images": count.images,
            "kept": share(count),
            "MB": round(count.size / _MB, 1),
            "reasons": ", ".join(f"{number} {reason}" for reason, number in count.reasons.most_common()),
        }


def share(count: HostCount) -> str:
    """Images kept, as a percentage of those requested; ``-`` before the first."""
    return f"{100 * count.kept / count.images:.0f} %" if count.images else "-"


def _in_brackets(reasons: Counter[str]) -> str:
    listed = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(4))
    return f" ({listed})" if listed else ""


def clock(seconds: float) -> str:
    """Seconds as ``0:01:20``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
