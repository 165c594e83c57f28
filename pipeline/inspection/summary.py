"""The figures of a finished build: records collected, kept, and rejected by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from surd.pipeline.build.damage import DamagedFile, reading, unfinished
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.inspection.unusable import unusable_notes
from surd.pipeline.model_cache.outputs import size_notes
from surd.pipeline.runner.run_unit import Outcome
from surd.schemas import Reason, Status


def summarize(build: Build, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """``collected``, ``kept``, ``rejected`` by reason, ``shards``, ``report``, ``skipped_units``, ``run_units``,
    ``notes`` on stages whose outputs are mostly unusable, and on model outputs that take much room.

    Counts come from the rows, so unless the build is broken they add up to what was collected.
    """
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in range(build.part_count()):
        rows = build.read_table(part_file("select", part), columns=["status", "reason"]).to_pydict()
        statuses.update(rows["status"])
        with reading(build, part_file("select", part)):
            reasons.update(Reason(reason) for reason in rows["reason"] if reason is not None)
    collected = build.marker("collect", 0)
    if collected is None:
        raise unfinished(build, "collect", 0)
    if (total := statuses[Status.KEPT] + reasons.total()) != collected.rows:
        problem = f"does not have every row ({total:,} of the {collected.rows:,} collected are kept or have a reason)"
        raise DamagedFile(build, part_file("select", 0), problem)
    done = list(outcomes)
    return {
        "collected": collected.rows,
        "kept": statuses[Status.KEPT],
        "rejected": {reason.value: reasons[reason] for reason in Reason if reasons[reason]},
        "shards": len(shard_manifest(build).shards),
        "report": build.path("report.html"),
        "skipped_units": sum(outcome.skipped for outcome in done),
        "run_units": sum(not outcome.skipped for outcome in done),
        "notes": [*unusable_notes(build), *size_notes(build.root)],
    }


def funnel(summary: dict[str, Any]) -> list[tuple[str, int, str]]:
    """The summary as lines of (what, count, meaning): collected, each reason, kept."""
    rejected = [(reason, count, Reason(reason).meaning) for reason, count in summary["rejected"].items()]
    return [
        ("collected", summary["collected"], "source records"),
        *rejected,
        ("kept", summary["kept"], f"samples in {summary['shards']} shard(s)"),
    ]
