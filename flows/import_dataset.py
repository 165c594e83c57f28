"""Import of a finished dataset: runs collect, fetch, decode, pack and embed in this process, without curation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.flows.build_record import build_record
from surd.flows.build_request import BuildRequest, request_import
from surd.flows.listener import Listener, StageSummary
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.forget.forget import finish_forgetting
from surd.pipeline.imports.rows import write_imported_rows
from surd.pipeline.imports.vectors import import_vectors, source_of, vector_files
from surd.pipeline.inspection.nothing_kept import check_kept
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, units
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig
from surd.schemas.config import Pooling


@dataclass(frozen=True, kw_only=True)
class Import:
    """What to import and how. ``pooling``: of vectors without a description; None: leave vectors out."""

    layout: str
    out: str
    fields: dict[str, Any]
    pooling: Pooling | None = "mean"
    overwrite: bool = False


def import_dataset(request: Import, listener: Listener) -> dict[str, Any]:
    """Import into a build, or continue an import that was stopped; returns the summary of the build.

    User errors raise SurdError. A row that cannot be a sample becomes a rejected row of the build, with a reason.
    """
    set_up_process()
    asked = request_import(
        out=request.out,
        source=source_of(request.layout),
        parameters=request.fields,
        overwrite=request.overwrite,
    )
    vectors = vector_files(request.layout) if request.pooling else []
    build = Build(asked.out)
    with exclusive(build):
        return _import(build, asked, vectors, request.pooling or "mean", listener)


def _import(
    build: Build, request: BuildRequest, vectors: list[Path], pooling: Pooling, listener: Listener
) -> dict[str, Any]:
    config = request.config
    finish_forgetting(build)
    record = build_record(request)
    outcomes = [*_run("collect", config, build, listener)]
    build.write_json("build.json", record)
    for name in ("fetch", "decode"):
        outcomes += _run(name, config, build, listener)
    write_imported_rows(build)
    check_kept(build, config)
    outcomes += _run("pack", config, build, listener)
    for path in vectors:
        shards = len(shard_manifest(build).shards)
        listener.stage_started("vectors", shards)
        written = import_vectors(build, path, pooling, Models(config.models))
        for done, _ in enumerate(written, start=1):
            listener.progress(done, shards)
        listener.stage_done("vectors", StageSummary(units=shards))
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
        listener.progress(len(outcomes), count)
    if stage.scope == "shard":
        finish(stage, build.root, config)
    listener.stage_done(name, StageSummary.of(outcomes))
    return outcomes
