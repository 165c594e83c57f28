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
from surd.pipeline.runner.plan import Planner, fold_ledgers
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, skipped
from surd.pipeline.stages import BY_NAME
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
    with exclusive(build) as check:
        fold_ledgers(build)
        planner = Planner(build, asked.config, check=check)
        return _import(planner, asked, vectors, request.pooling or "mean", listener)


def _import(
    planner: Planner, request: BuildRequest, vectors: list[Path], pooling: Pooling, listener: Listener
) -> dict[str, Any]:
    build, config = planner.build, planner.config
    finish_forgetting(build)
    record = build_record(request)
    outcomes = [*_run("collect", planner, listener)]
    build.write_json("build.json", record)
    for name in ("fetch", "decode"):
        outcomes += _run(name, planner, listener)
    write_imported_rows(build)
    fold_ledgers(build)
    check_kept(build, config)
    outcomes += _run("pack", planner, listener)
    for path in vectors:
        shards = len(shard_manifest(build).shards)
        listener.stage_started("vectors", shards)
        written = import_vectors(build, path, pooling, Models(config.models))
        for done, _ in enumerate(written, start=1):
            listener.progress("vectors", done, shards)
        listener.stage_done("vectors", StageSummary(units=shards))
    fold_ledgers(build)
    outcomes += _run("embed", planner, listener)
    outcomes += _run("report", planner, listener)
    return summarize(build, outcomes)


def _run(name: str, planner: Planner, listener: Listener) -> list[Outcome]:
    stage, build, config = BY_NAME[name], planner.build, planner.config
    plan = planner.plan(stage)
    outcomes = [skipped(stage, unit, rows) for unit, rows in plan.done.items()]
    count = len(outcomes) + len(plan.tasks)
    listener.stage_started(name, count)
    listener.progress(name, len(outcomes), count)
    for task in plan.tasks:
        outcomes.append(run_unit(stage, task.unit, build.root, config, task))
        planner.check()
        listener.progress(name, len(outcomes), count)
    if plan.tasks:
        planner.ran(stage)
    if stage.scope == "shard":
        finish(stage, build.root, config)
    listener.stage_done(name, StageSummary.of(outcomes))
    return outcomes
