"""Checks the models of the stages that will run, before the first of them does."""

from __future__ import annotations

from collections.abc import Sequence

from surd.pipeline.build.folder import Build
from surd.pipeline.models.check import check_role, is_local, roles_needed
from surd.pipeline.runner.fingerprint import inputs
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, SurdError


def check_models(config: BuildConfig, build: Build, *, refresh: bool = False) -> None:
    """Raises SurdError that names every model that is missing or cannot do what a stage that will run needs of it.

    A finished stage is skipped without its model; with ``refresh`` none counts as finished. What is finished is looked
    up only where it matters, because that reads all ledgers: when a model is at fault, or would have to be looked for
    on the network.
    """
    pending: set[str] | None = None
    faults: list[SurdError] = []
    for role, stages in roles_needed(config).items():
        if pending is None and not _known_local(role, config):
            pending = unfinished(config, build, refresh=refresh)
        if pending is not None and not pending.intersection(stages):
            continue
        try:
            check_role(role, config)
            if role == "captioner":
                from surd.pipeline.stages.caption import check_questions

                check_questions(config)
        except SurdError as error:
            pending = unfinished(config, build, refresh=refresh) if pending is None else pending
            if pending.intersection(stages):
                faults.append(error)
    if faults:
        raise joined_faults(faults)


def joined_faults(faults: Sequence[SurdError]) -> SurdError:
    """One error that names all of them; the one that there is, where there is one."""
    different = list({str(fault): fault for fault in faults}.values())
    if len(different) == 1:
        return different[0]
    listed = "; ".join(f"({number}) {fault}" for number, fault in enumerate(different, start=1))
    return SurdError(f"{len(different)} models cannot be used: {listed}")


def unfinished(config: BuildConfig, build: Build, *, refresh: bool = False) -> set[str]:
    """The stages that a run would not skip as a whole."""
    planner, pending = Planner(build, config, refresh=refresh), set[str]()
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
