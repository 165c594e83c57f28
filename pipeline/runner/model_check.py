"""Checks the models of the stages that will run, before the first of them does."""

from __future__ import annotations

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.models.check import check_role, is_local, roles_needed
from surd.pipeline.runner.run_unit import fingerprint, inputs, units
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, SurdError


def check_models(config: BuildConfig, build: Build) -> None:
    """Raises SurdError for the first model that is missing or cannot do what a stage that will run needs of it.

    A finished stage is skipped without its model. What is finished is looked up only where it matters, because that
    reads all markers: when a model is at fault, or would have to be looked for on the network.
    """
    pending: set[str] | None = None
    for role, stages in roles_needed(config).items():
        if pending is None and not _known_local(role, config):
            pending = unfinished(config, build)
        if pending is not None and not pending.intersection(stages):
            continue
        try:
            check_role(role, config)
            if role == "captioner":
                from surd.pipeline.stages.caption import check_questions

                check_questions(config)
        except SurdError:
            pending = unfinished(config, build) if pending is None else pending
            if pending.intersection(stages):
                raise


def unfinished(config: BuildConfig, build: Build) -> set[str]:
    """The stages that a run would not skip as a whole."""
    models, pending = Models(config.models), set[str]()
    for stage in STAGES:
        if pending.intersection(inputs(stage, config)) or not _is_done(stage, config, build, models):
            pending.add(stage.name)
    return pending


def _is_done(stage: Stage, config: BuildConfig, build: Build, models: Models) -> bool:
    """Whether every unit of a stage would be skipped; the stages that it reads are done."""
    try:
        for unit in range(units(stage, build)):
            marker = build.marker(stage.name, unit)
            if not marker or marker.transient or marker.fingerprint != fingerprint(stage, unit, build, config, models):
                return False
    except (SurdError, OSError, ValueError, RuntimeError):  # whatever is wrong with it, the stage itself will say
        return False
    return True


def _known_local(role: str, config: BuildConfig) -> bool:
    try:
        return is_local(role, config)
    except SurdError:
        return True
