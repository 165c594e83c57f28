"""What a run would still do of each stage, and for how long, by the ledgers that earlier runs of the build left."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from surd.pipeline.build.folder import Build
from surd.pipeline.build.ledger import Ledger
from surd.pipeline.runner.fingerprint import inputs
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, Status, SurdError

_SAMPLED_PARTS = 20  # of fetch, for the mean size of a picture


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """One stage: its units that are done, those that would run, and about how many seconds these take.

    ``to_run`` None: all, however many there will be. ``seconds`` None: it has not run in this build yet.
    """

    stage: str
    done: int
    to_run: int | None
    seconds: float | None

    @property
    def is_done(self) -> bool:
        return self.to_run == 0


def fresh_work() -> list[StageWork]:
    """Of a build of which nothing has run."""
    return [StageWork(stage=stage.name, done=0, to_run=None, seconds=None) for stage in STAGES]


def remaining_work(build: Build, config: BuildConfig, records: int | None, *, refresh: bool = False) -> list[StageWork]:
    """What a run would do; ``records``: how many the source has, None: as many as before.

    Where a stage's input will be made anew it counts as to be run, though it is skipped if the input turns out the
    same. Reads ledgers and hashes local models; writes nothing.
    """
    planner, waiting = Planner(build, config, refresh=refresh), dict[str, Set[int] | None]()
    found = []
    for stage in STAGES:
        work, units = _work(stage, planner, waiting)
        if work.to_run != 0:
            waiting[stage.name] = units
        found.append(_timed(work, stage, build, config, records))
    return found


def _work(stage: Stage, planner: Planner, waiting: dict[str, Set[int] | None]) -> tuple[StageWork, Set[int] | None]:
    """A stage's work, and the units that would run; None: all of them."""
    before = [waiting[name] for name in inputs(stage, planner.config) if name in waiting]
    units = set().union(*(some for some in before if some))
    whole = StageWork(stage=stage.name, done=0, to_run=None, seconds=None)
    if None in before or (units and stage.scope != "partition"):
        return whole, None
    try:
        plan = planner.plan(stage, units)
    except (SurdError, OSError, ValueError, RuntimeError):  # whatever is wrong, the stage itself will say
        return whole, None
    units |= {task.unit for task in plan.tasks}
    if units and not plan.done and stage.scope != "partition":
        return whole, None
    work = StageWork(stage=stage.name, done=len(plan.done), to_run=len(units), seconds=None)
    return work, units if stage.scope == "partition" else None


def _timed(work: StageWork, stage: Stage, build: Build, config: BuildConfig, records: int | None) -> StageWork:
    if work.is_done:
        return StageWork(stage=stage.name, done=work.done, to_run=0, seconds=0.0)
    try:
        ledger = build.ledger(stage.name)
        markers = [marker for unit in ledger.units() if (marker := ledger.recorded(unit)) and marker.seconds > 0]
        before = _records_before(build)
    except (SurdError, OSError):
        return work
    if not markers or not before:
        return work
    units = len(ledger.units())
    share = work.to_run / units if work.to_run is not None else (before if records is None else records) / before
    at_once = config.workers if stage.scope == "partition" else 1
    at_once = max(1, min(at_once, work.to_run or units))
    seconds = sum(marker.seconds for marker in markers) * units / len(markers) * share / at_once
    return StageWork(stage=stage.name, done=work.done, to_run=work.to_run, seconds=seconds)


def _records_before(build: Build) -> int:
    """The records that the latest collect gave."""
    marker = build.ledger("collect").recorded(0)
    return marker.rows if marker else 0


def collected(build: Build, work: list[StageWork]) -> int | None:
    """The records of the build, where collect would not run again."""
    if not next(one for one in work if one.stage == "collect").is_done:
        return None
    return _records_before(build)


def bytes_a_record(build: Build) -> float | None:
    """The mean bytes of a record's picture in what this build has fetched, rejected ones counted; None: nothing."""
    sizes = rows = 0
    ledger: Ledger = build.ledger("fetch")
    for unit in ledger.units()[:_SAMPLED_PARTS]:
        if ledger.marker(unit):
            table = build.read_table(f"fetch/part-{unit:05d}.parquet", columns=["status", "size"]).to_pydict()
            pairs = zip(table["status"], table["size"], strict=True)
            sizes += sum(size or 0 for status, size in pairs if status == Status.KEPT)
            rows += len(table["size"])
    return sizes / rows if rows else None
