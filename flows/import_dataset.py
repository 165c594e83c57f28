"""Runs an import: the stages that get and store samples, with curation passed over, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from surd.flows.build_record import check
from surd.flows.listener import Listener
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.imports.rows import write_imported_rows
from surd.pipeline.imports.vectors import import_vectors, source_of, vector_files
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.models import Models
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, units
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, BuildRecord, SurdError, load_config
from surd.schemas.config import Pooling


@dataclass(frozen=True, kw_only=True)
class Import:
    """What is imported and how. ``pooling``: what vectors are that nothing describes; None: they are left out."""

    layout: str
    out: str
    fields: dict[str, Any]
    pooling: Pooling | None = "mean"


def import_dataset(wanted: Import, listener: Listener) -> dict[str, Any]:
    """Import into a build, or go on with an import that was stopped; returns the summary of the build.

    Raises SurdError for what is the user's to mend. A row that cannot be a sample is a row of the build with a reason.
    """
    source = source_of(wanted.layout)
    config = load_config({}, {"embed.layers": []} | wanted.fields | {"source": source})
    build = Build(wanted.out)
    _refuse_another(build, redact_secrets(source))
    vectors = vector_files(wanted.layout) if wanted.pooling else []
    record = check(config, wanted.out)
    outcomes = [*_run("collect", config, build, listener)]
    build.write_json("build.json", record)
    for name in ("fetch", "decode"):
        outcomes += _run(name, config, build, listener)
    write_imported_rows(build)
    outcomes += _run("pack", config, build, listener)
    if not shard_manifest(build).count:
        raise SurdError(f"SOURCE is {wanted.layout!r} and no row of it is a whole sample: {_why(build)}")
    for path in vectors:
        shards = len(shard_manifest(build).shards)
        listener.stage_started("vectors", shards)
        for _ in import_vectors(build, path, wanted.pooling or "mean", Models(config.models)):
            listener.unit_done(Outcome(stage="vectors", unit=0, skipped=False, rows=0, seconds=0))
        listener.stage_done("vectors", [Outcome(stage="vectors", unit=0, skipped=False, rows=0, seconds=0)] * shards)
    outcomes += _run("embed", config, build, listener)
    outcomes += _run("report", config, build, listener)
    return summarize(build, outcomes)


def _run(name: str, config: BuildConfig, build: Build, listener: Listener) -> list[Outcome]:
    stage = BY_NAME[name]
    count = units(stage, build)
    listener.stage_started(name, count)
    outcomes = []
    for unit in range(count):
        outcomes.append(run_unit(stage, unit, build.root, config))
        listener.unit_done(outcomes[-1])
    if stage.scope == "shard":
        finish(stage, build.root, config)
    listener.stage_done(name, outcomes)
    return outcomes


def _refuse_another(build: Build, source: str) -> None:
    if not build.exists("build.json"):
        return
    try:
        theirs = BuildRecord.model_validate_json(build.read_bytes("build.json")).config.get("source")
    except ValidationError:
        raise SurdError(f"--out is {build.root!r}, whose build.json cannot be read; name another folder") from None
    if theirs != source:
        raise SurdError(f"--out is {build.root!r} and holds a build of {theirs!r}; name another folder")


def _why(build: Build) -> str:
    counts = summarize(build, [])["rejected"]
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "it is empty"
