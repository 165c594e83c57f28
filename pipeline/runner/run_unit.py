"""Runs one unit of a stage: skips it when its marker matches what would be done, else redoes and marks it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from surd.pipeline.build.damage import explaining_faults
from surd.pipeline.build.folder import Build, part_number
from surd.pipeline.build.memory import give_back_memory
from surd.pipeline.build.progress import counting
from surd.pipeline.models import ROLES, Models
from surd.pipeline.models.check import roles_needed
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.runner.plan import Planner, UnitTask, fits
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, Marker, Row, Status, SurdError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one unit of one stage. ``rejected`` counts the rows this stage itself rejected, by reason.

    ``marker``: of a unit that has run.
    """

    stage: str
    unit: int
    skipped: bool
    rows: int
    seconds: float
    rejected: dict[str, int] = field(default_factory=dict)
    marker: Marker | None = None


def skipped(stage: Stage, unit: int, rows: int) -> Outcome:
    """The outcome of a unit that a plan found done."""
    return Outcome(stage=stage.name, unit=unit, skipped=True, rows=rows, seconds=0.0)


def run_unit(stage: Stage, unit: int, root: str, config: BuildConfig, task: UnitTask | None = None) -> Outcome:
    """Run one unit of a stage, or skip it when its marker matches what would be done.

    With a ``task`` of the driver's plan the unit reads no ledger; without, it plans itself. User errors raise
    SurdError; anything else that is raised is a bug or a passing fault, and running again continues from the last
    marker.
    """
    build = Build(root)
    with explaining_faults(build):
        return _run_unit(stage, unit, build, config, task)


def _run_unit(stage: Stage, unit: int, build: Build, config: BuildConfig, task: UnitTask | None) -> Outcome:
    started = time.perf_counter()
    models = Models(config.models)
    # A planned unit has no marker that fits, unless it has ended in this run and is only tried again.
    marker_of = build.fresh_marker if task and stage.scope != "source" else build.marker
    task = task or Planner(build, config, models).task(stage, unit)
    marker = marker_of(stage.name, unit)
    if marker and fits(marker, task.fingerprint) and not task.again:
        seconds = time.perf_counter() - started
        return Outcome(stage=stage.name, unit=unit, skipped=True, rows=marker.rows, seconds=seconds, marker=marker)
    if (task.marked or marker) and stage.scope != "source":
        build.remove_marker(stage.name, unit)
    kept = _roles_from(task.since or stage.name, config)
    models.unload(set(ROLES) - kept, kept)
    with counting(build, stage.name, unit), build.recording() as outputs:
        tally = _write_parts(stage, unit, build, config, models)
    marker = Marker(
        stage=stage.name,
        part=unit,
        parts=task.parts if stage.scope in ("partition", "shard") else tally.parts,
        fingerprint=task.fingerprint,
        outputs=dict(sorted(outputs.items())),
        rows=tally.rows,
        transient=tally.transient,
        seconds=round(time.perf_counter() - started, 3),
    )
    build.write_marker(marker)
    give_back_memory()
    log.debug("%s %d: %d rows in %.1f s", stage.name, unit, tally.rows, marker.seconds)
    return Outcome(
        stage=stage.name,
        unit=unit,
        skipped=False,
        rows=tally.rows,
        seconds=marker.seconds,
        rejected=dict(tally.rejected),
        marker=marker,
    )


def _roles_from(stage: str, config: BuildConfig) -> set[str]:
    """The model roles that a stage or a later one loads."""
    names = [one.name for one in STAGES]
    rest = set(names[names.index(stage) :])
    return {role for role, stages in roles_needed(config).items() if role in ROLES and rest.intersection(stages)}


@dataclass
class _Tally:
    """What a unit wrote: parts, rows, those to try again, and those this stage rejected, by reason."""

    parts: int = 0
    rows: int = 0
    transient: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, stage: str, rows: Sequence[Row]) -> None:
        """Count the rows of one part."""
        self.parts += 1
        self.rows += len(rows)
        self.transient += sum(bool(getattr(row, "transient", None)) for row in rows)
        own = (row for row in rows if row.status is Status.REJECTED and row.rejected_by == stage)
        self.rejected.update(row.reason.value for row in own if row.reason)


def _write_parts(stage: Stage, unit: int, build: Build, config: BuildConfig, models: Models) -> _Tally:
    """Run the stage's function and write its rows; a source may be longer than memory, so each part as it comes."""
    function, tally = stage.load(), _Tally()
    if stage.scope in ("partition", "shard"):
        parts: Iterable[tuple[int, Sequence[Row] | None]] = [(unit, function(build, unit, config, models))]
    else:
        parts = enumerate(function(build, config, models))
    for part, rows in parts:
        if stage.scope == "source" and not part:  # what an earlier run gave was all there until now
            build.remove_marker(stage.name, unit)
        if stage.row:
            build.write_rows(stage.name, part, stage.row, list(rows or ()))
        tally.add(stage.name, rows or ())
    if stage.scope == "source":
        if not tally.parts:
            shown = redact_secrets(config.source)
            raise SurdError(f"source is {shown!r}: it gives no records; check it, or use another source")
        _drop_stale_parts(build, tally.parts)
    return tally


def finish(stage: Stage, root: str, config: BuildConfig) -> None:
    """What a stage does once all its units are done (embed writes its column manifests); cheap, and always safe."""
    if stage.finishes:
        stage.load_finish()(Build(root), config, Models(config.models))


def _drop_stale_parts(build: Build, parts: int) -> None:
    """Remove what an earlier, longer collect left behind in every stage."""
    for stage in STAGES:
        if stage.scope == "shard":
            continue
        for name in build.listdir(stage.name):
            if (part_number(name) or 0) >= parts:
                build.remove(f"{stage.name}/{name}")
        for unit in build.ledger(stage.name).units():
            if unit >= parts:
                build.remove_marker(stage.name, unit)
