"""Checks the models of the stages that will run, before the first of them does."""

from __future__ import annotations

from surd.pipeline.build.folder import Build
from surd.pipeline.models.check import check_role, is_local, roles_needed
from surd.pipeline.runner.fingerprint import inputs
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, SurdError


def check_models(config: BuildConfig, build: Build) -> None:
    """Raises SurdError for the first model that is missing or cannot do what a stage that will run needs of it.

    A finished stage is skipped without its model. What is finished is looked up only where it matters, because that
    reads all ledgers: when a model is at fault, or would have to be looked for on the network.
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
    planner, pending = Planner(build, config), set[str]()
    for stage in STAGES:
        if pending.intersection(inputs(stage, config)) or not _is_done(stage, planner):
            pending.add(stage.name)
    return pending


def _is_done(stage: Stage, planner: Planner) -> bool:
    """Whether every unit of a stage would be skipped; the stages that it reads are done."""
    try:
        return not planner.plan(stage).tasks
    except (SurdError, OSError, ValueError, RuntimeError):  # whatever is wrong with it, the stage itself will say
        return False


def _known_local(role: str, config: BuildConfig) -> bool:
    try:
        return is_local(role, config)
    except SurdError:
        return True
