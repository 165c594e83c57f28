"""Runs one unit of a stage: skips it when its marker matches what would be done, else redoes and marks it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from surd.pipeline.build.damage import LASTING, DamagedFile, blaming_damage, unfinished
from surd.pipeline.build.folder import Build, marker_file, part_file
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.facts.similarity import installed
from surd.pipeline.models import ROLES, Models
from surd.pipeline.models.check import roles_needed
from surd.pipeline.models.nsfw import safety_files
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.stages import BY_NAME, STAGES, Stage
from surd.schemas import BuildConfig, Marker, Row, Status, SurdError
from surd.schemas.errors import FULL
from surd.schemas.paths import absolute

log = logging.getLogger(__name__)
_PIPELINE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one unit of one stage. ``rejected`` counts the rows this stage itself rejected, by reason."""

    stage: str
    unit: int
    skipped: bool
    rows: int
    seconds: float
    rejected: dict[str, int] = field(default_factory=dict)


def units(stage: Stage, build: Build) -> int:
    """How many units a stage has, once the stages it reads are done."""
    if stage.scope == "partition":
        return build.part_count()
    if stage.scope == "shard":
        return _shard_count(build)
    return 1


def _shard_count(build: Build) -> int:
    """By the manifest, which must list the shards that pack wrote: columns of others would be taken away."""
    names = {shard.name for shard in shard_manifest(build).shards}
    marker = build.marker("pack", 0)
    written = {file.removeprefix("shards/") for file in marker.outputs if file.endswith(".tar")} if marker else names
    if names != written:
        problem = f"lists {len(names):,} shard(s) and pack wrote {len(written):,}, or others"
        raise DamagedFile(build, "shards/manifest.json", problem)
    return len(names)


def run_unit(stage: Stage, unit: int, root: str, config: BuildConfig) -> Outcome:
    """Run one unit of a stage, or skip it when its marker matches what would be done.

    User errors raise SurdError; anything else that is raised is a bug or a passing fault, and
    running again continues from the last marker.
    """
    try:
        with blaming_damage(Build(root)):
            return _run_unit(stage, unit, root, config)
    except OSError as error:
        if error.errno in LASTING and error.filename:
            raise SurdError(
                f"{error.filename} cannot be read or written ({error.strerror}); make it what a build needs there,"
                " or move it away, then run the same surd build again"
            ) from error
        if error.errno not in FULL:
            raise
        why = (error.strerror or "full").lower()
        raise SurdError(
            f"out is {root!r} and cannot be written ({why}); free some space and run again to continue"
        ) from error


def _run_unit(stage: Stage, unit: int, root: str, config: BuildConfig) -> Outcome:
    started = time.perf_counter()
    build, models = Build(root), Models(config.models)
    basis = fingerprint(stage, unit, build, config, models)
    marker = build.marker(stage.name, unit)
    if marker and marker.fingerprint == basis and not marker.transient:
        return Outcome(
            stage=stage.name, unit=unit, skipped=True, rows=marker.rows, seconds=time.perf_counter() - started
        )
    build.remove(marker_file(stage.name, unit))
    kept = _roles_from(stage, config)
    models.unload(set(ROLES) - kept, kept)
    with build.recording() as outputs:
        try:
            tally = _write_parts(stage, unit, build, config, models)
        except SurdError:
            if marker and stage.scope == "source" and part_file(stage.name, 0) not in outputs:
                build.write_json(marker_file(stage.name, unit), marker)  # what an earlier source gave is all there
            raise
    marker = Marker(
        stage=stage.name,
        part=unit,
        parts=units(stage, build) if stage.scope in ("partition", "shard") else tally.parts,
        fingerprint=basis,
        outputs=dict(sorted(outputs.items())),
        rows=tally.rows,
        transient=tally.transient,
        seconds=round(time.perf_counter() - started, 3),
    )
    build.write_json(marker_file(stage.name, unit), marker)
    log.debug("%s %d: %d rows in %.1f s", stage.name, unit, tally.rows, marker.seconds)
    return Outcome(
        stage=stage.name,
        unit=unit,
        skipped=False,
        rows=tally.rows,
        seconds=marker.seconds,
        rejected=dict(tally.rejected),
    )


def _roles_from(stage: Stage, config: BuildConfig) -> set[str]:
    """The model roles that a stage or a later one loads."""
    names = [one.name for one in STAGES]
    rest = set(names[names.index(stage.name) :])
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


def fingerprint(stage: Stage, unit: int, build: Build, config: BuildConfig, models: Models) -> str:
    """sha256 over what decides a unit's outcome: stage version, config fields, models, inputs, data files, source."""
    basis = {
        "stage": stage.name,
        "version": stage.version,
        "settings": declared_values(config, stage.config_fields),
        "models": {role: models.revision(role) for role in stage.roles(config)},
        "inputs": {read: _input_hashes(BY_NAME[read], stage, unit, build) for read in inputs(stage, config)},
    }
    if stage.also and _field(config, stage.also.field):
        data = [_file_hash(_PIPELINE / file) for file in stage.also.data_files]
        basis["also"] = {"settings": declared_values(config, stage.also.config_fields), "data": data}
    if "facts" in stage.config_fields:
        basis["similarity"] = installed(
            config.facts.similarity
        )  # without the package, other values come in another order
    if files := _data_files(stage, config):
        basis["data"] = [_file_hash(file) for file in files]
    if stage.scope == "source":
        from surd.pipeline.sources import open_source

        basis["source"] = open_source(config).fingerprint()
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()


def inputs(stage: Stage, config: BuildConfig) -> tuple[str, ...]:
    """The stages that a stage reads under this config."""
    return (*stage.reads, *stage.also.reads) if stage.also and _field(config, stage.also.field) else stage.reads


def declared_values(config: BuildConfig, fields: Iterable[str]) -> Mapping[str, Any]:
    """Field -> value as JSON, nested as in the config; of fields that all lie in one section, that section alone.

    A model role that is not given stands for the model that fills it.
    """
    values: dict[str, Any] = {}
    for path in fields:
        section, _, name = path.partition(".")
        if not name:
            values[section] = _plain(getattr(config, section))
        elif section == "models":
            values.setdefault(section, {})[name] = config.models.ref(name)
        else:
            values.setdefault(section, {})[name] = _plain(getattr(getattr(config, section), name))
    only = next(iter(values.values())) if len(values) == 1 else None
    return only if isinstance(only, dict) else values


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _data_files(stage: Stage, config: BuildConfig) -> list[Path]:
    files = []
    for entry in stage.data_files:
        configurable, _, shipped = entry.rpartition(":")
        own = _field(config, configurable) if configurable else None
        files.append(absolute(own) if own else _PIPELINE / shipped)
    return [*files, *safety_files(config.safety)] if stage.safety_models else files


def _field(config: BuildConfig, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


def _file_hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise SurdError(f"{str(file)!r} cannot be read ({error.strerror}); give the path of a file") from None


def _input_hashes(read: Stage, reader: Stage, unit: int, build: Build) -> dict[str, str]:
    """Content hashes of what ``reader`` reads of ``read``: of its own partition for a map over partitions, else all."""
    same_unit = read.scope == reader.scope and read.scope in ("partition", "shard")
    wanted = [unit] if same_unit else range(units(read, build))
    hashes: dict[str, str] = {}
    for number in wanted:
        marker = build.marker(read.name, number)
        if marker is None:
            raise unfinished(build, read.name, number, marker_file(read.name, number))
        hashes |= marker.outputs
    if reader.scope == "partition" and read.scope in ("source", "build"):
        mine = part_file(read.name, unit)
        if mine not in hashes:
            raise DamagedFile(build, marker_file(read.name, 0), f"is not a valid marker (it lists no {mine})")
        return {mine: hashes[mine]}
    return hashes


def _drop_stale_parts(build: Build, parts: int) -> None:
    """Remove what an earlier, longer collect left behind in every stage."""
    for stage in STAGES:
        for name in build.listdir(stage.name):
            if (
                name.startswith("part-")
                and int(name[5:10]) >= parts
                and stage.scope in ("source", "partition", "build")
            ):
                build.remove(f"{stage.name}/{name}")
