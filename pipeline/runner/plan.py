"""What a run has to do: the fingerprint of every unit of a stage, compared with the stage's ledger.

The driver plans a stage once the stages that it reads are done. Ledgers are read once and output folders listed once,
and a unit is handed what it needs to know, so that the cost of a unit does not grow with the number of units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from surd.pipeline.build.damage import DamagedFile, explaining_faults, unfinished
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.ledger import Ledger
from surd.pipeline.build.rewritten import read_rewritten
from surd.pipeline.dataset.columns.spec import column_folders, marker_folder, shard_manifest
from surd.pipeline.decisions.in_force import decided, in_force
from surd.pipeline.models import Models
from surd.pipeline.runner.fingerprint import basis_of, digest, inputs
from surd.pipeline.stages import BY_NAME, STAGES, Stage
from surd.schemas import BuildConfig, Marker


@dataclass(frozen=True, kw_only=True)
class UnitTask:
    """A unit to run, as plain values: any machine can run it without a look at a ledger.

    ``parts``: units that the stage has. ``marked``: there is a marker, which no longer fits. ``since``: the first of
    the stages that run beside this one, whose models are to stay loaded too; None: it runs alone. ``again``: it runs
    also where its marker fits.
    """

    unit: int
    parts: int
    fingerprint: str
    marked: bool
    since: str | None = None
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """``done``: unit -> rows of those to be skipped; ``tasks``: the others, in order."""

    done: dict[int, int]
    tasks: list[UnitTask]


def units(stage: Stage, build: Build) -> int:
    """How many units a stage has, once the stages it reads are done."""
    return _units(stage, build, build.marker)


def _units(stage: Stage, build: Build, marker_of: Callable[[str, int], Marker | None]) -> int:
    if stage.scope == "partition":
        marker = marker_of("collect", 0)
        return marker.parts if marker else 0
    return _shard_count(build, marker_of("pack", 0)) if stage.scope == "shard" else 1


def _shard_count(build: Build, pack: Marker | None) -> int:
    """By the manifest, which must list the shards that pack wrote: columns of others would be taken away."""
    names = {shard.name for shard in shard_manifest(build).shards}
    written = {file.removeprefix("shards/") for file in pack.outputs if file.endswith(".tar")} if pack else names
    if names != written:
        problem = f"lists {len(names):,} shard(s) and pack wrote {len(written):,}, or others"
        raise DamagedFile(build, "shards/manifest.json", problem)
    return len(names)


def fits(marker: Marker | None, fingerprint: str) -> bool:
    """Whether a unit with this marker is done; rows rejected for what may pass are tried again."""
    return marker is not None and marker.fingerprint == fingerprint and not marker.transient


def fold_ledgers(build: Build) -> None:
    """Fold the ledgers of all stages and columns: what a killed run left, and what an older version wrote.

    Only while the build is held (``exclusive``).
    """
    for stage in STAGES:
        build.fold_ledger(stage.name)
    _fold_columns(build)


def _fold_columns(build: Build) -> None:
    for column in [] if build.is_file("columns") else column_folders(build):
        build.fold_ledger(marker_folder(column))


class Planner:
    """Plans the stages of one run, in their order. Call ``ended`` after a unit of a stage that others wait for, and
    ``ran`` after a stage has run.

    ``check`` raises SurdError when the run no longer holds the build; call it now and then. ``refresh``: collect runs
    though it is done, because what the source gives may have changed.
    """

    def __init__(
        self,
        build: Build,
        config: BuildConfig,
        models: Models | None = None,
        check: Callable[[], None] = lambda: None,
        *,
        refresh: bool = False,
    ) -> None:
        self.build, self.config, self.check = build, config, check
        self._again = {"collect"} if refresh else set()
        self._models = models or Models(config.models)
        self._ledgers: dict[str, Ledger] = {}
        self._units: dict[str, int] = {}
        self._outputs: dict[str, dict[str, str]] = {}  # of whole stages, for those that read them whole
        self._counts_as = read_rewritten(build)
        self._bases: dict[str, dict[str, Any]] = {}

    def plan(self, stage: Stage, waiting: Set[int] = frozenset(), since: str | None = None) -> StagePlan:
        """What of a stage is done, and what is to be run. Raises SurdError where it cannot be known.

        Leaves out the units of ``waiting``, whose input is not made yet: see ``plan_unit``. ``since``: see UnitTask.
        """
        self.check()
        with explaining_faults(self.build):
            basis = self._bases[stage.name] = self._basis(stage)
            plan, fingerprint = StagePlan(done={}, tasks=[]), ""
            for unit in range(self.units(stage)):
                if unit in waiting:
                    continue
                if not fingerprint or stage.scope == "partition":  # else the units read the same
                    fingerprint = digest(basis, self._inputs(stage, unit))
                found = self._compare(stage, unit, fingerprint, since)
                if isinstance(found, UnitTask):
                    plan.tasks.append(found)
                else:
                    plan.done[unit] = found
            return plan

    def plan_unit(self, stage: Stage, unit: int, since: str | None = None) -> UnitTask | int:
        """A unit that ``plan`` left out, now that its input is made: the task, or its rows when it is done."""
        with explaining_faults(self.build):
            return self._compare(stage, unit, digest(self._bases[stage.name], self._inputs(stage, unit)), since)

    def _compare(self, stage: Stage, unit: int, fingerprint: str, since: str | None) -> UnitTask | int:
        ledger = self._ledger(stage.name)
        marker = ledger.marker(unit)
        again = stage.name in self._again
        if marker and fits(marker, fingerprint) and not again:
            return marker.rows
        marked, parts = ledger.recorded(unit) is not None, self.units(stage)
        return UnitTask(unit=unit, parts=parts, fingerprint=fingerprint, marked=marked, since=since, again=again)

    def task(self, stage: Stage, unit: int) -> UnitTask:
        """One unit of a stage, done or not."""
        return UnitTask(unit=unit, parts=self.units(stage), fingerprint=self.fingerprint(stage, unit), marked=True)

    def fingerprint(self, stage: Stage, unit: int) -> str:
        """Of one unit of a stage. Of all of them, ``plan`` is faster."""
        return digest(self._basis(stage), self._inputs(stage, unit))

    def units(self, stage: Stage) -> int:
        """How many units a stage has."""
        if stage.name not in self._units:
            self._units[stage.name] = _units(stage, self.build, lambda name, unit: self._ledger(name).marker(unit))
        return self._units[stage.name]

    def records(self) -> int:
        """How many records collect gave; 0 before it is done."""
        collected = self._ledger("collect").recorded(0)
        return collected.rows if collected else 0

    def rows(self, unit: int) -> int:
        """How many records a partition has; 0 before it is fetched."""
        fetched = self._ledger("fetch").recorded(unit)
        return fetched.rows if fetched else 0

    def pace(self, stage: Stage) -> float | None:
        """Records a second in one thread, by what this build's ledger holds of the stage; None: it has not run yet."""
        ledger = self._ledger(stage.name)
        ran = [marker for unit in ledger.units() if (marker := ledger.recorded(unit)) and marker.seconds > 0]
        rows = sum(marker.rows for marker in ran)
        return rows / sum(marker.seconds for marker in ran) if rows else None

    def ended(self, marker: Marker) -> None:
        """A unit has run; what reads its outputs can be planned before the whole stage has run."""
        self._ledger(marker.stage).note(marker)

    def ran(self, stage: Stage) -> None:
        """Fold what the units of a stage recorded. Only while the build is held (``exclusive``)."""
        if stage.scope == "shard":
            _fold_columns(self.build)
        self._ledgers[stage.name] = self.build.fold_ledger(stage.name)
        self._outputs.pop(stage.name, None)
        self._units.clear()

    def _basis(self, stage: Stage) -> dict[str, Any]:
        """What decides the outcome of all units alike; what persons decided is read when the stage's turn has come."""
        basis = basis_of(stage, self.config, self._models)
        if stage.decisions and (decisions := decided(in_force(self.build), stage.decisions)):
            basis["decisions"] = decisions
        return basis

    def _ledger(self, stage: str) -> Ledger:
        if stage not in self._ledgers:
            self._ledgers[stage] = self.build.ledger(stage)
        return self._ledgers[stage]

    def _inputs(self, stage: Stage, unit: int) -> dict[str, Mapping[str, str]]:
        return {read: self._input(BY_NAME[read], stage, unit) for read in inputs(stage, self.config)}

    def _input(self, read: Stage, reader: Stage, unit: int) -> Mapping[str, str]:
        """sha256 of what ``reader`` reads of ``read``: of its own partition for a map over partitions, else of all."""
        if read.scope == reader.scope == "partition":
            return self._outputs_of(read, unit)
        outputs = self._all_outputs(read)
        if reader.scope != "partition":
            return outputs
        mine = part_file(read.name, unit)
        if mine not in outputs:
            raise DamagedFile(self.build, f"{read.name}/ledger.parquet", f"is not a valid ledger (it lists no {mine})")
        return {mine: outputs[mine]}

    def _all_outputs(self, read: Stage) -> Mapping[str, str]:
        if read.name not in self._outputs:
            every = [self._outputs_of(read, unit) for unit in range(self.units(read))]
            self._outputs[read.name] = {file: sha256 for outputs in every for file, sha256 in outputs.items()}
        return self._outputs[read.name]

    def _outputs_of(self, read: Stage, unit: int) -> Mapping[str, str]:
        marker = self._ledger(read.name).marker(unit)
        if marker is None:
            raise unfinished(self.build, read.name, unit)
        return {file: self._counts_as.get(sha256, sha256) for file, sha256 in marker.outputs.items()}
