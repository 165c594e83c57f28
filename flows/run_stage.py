"""Runs all units of one stage as Prefect tasks: on threads, in a pool of processes, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import get_current_settings
from prefect.states import Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff

from surd.flows.fetch_watch import FetchWatch
from surd.flows.listener import Listener, StageSummary
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.runner.plan import Planner, UnitTask
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, skipped
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import BuildConfig, SurdError

RETRY_DELAYS = exponential_backoff(backoff_factor=2)


def _is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to retry: after a disk or network fault, but neither after a user error nor after a bug."""
    return isinstance(state.result(raise_on_failure=False), OSError | httpx.HTTPError)


def make_unit_task(pool: FetchProcesses | None) -> Task[..., Any]:
    """The task that runs one unit of one stage: in ``pool``, or without one where the task itself runs.

    On other machines (Ray) there is never a pool, and all that travels is the task and its plain arguments.
    """

    # Prefect's cache stays off: its keys know neither the config nor the models, our markers know both.
    @task(
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=3,
        retry_delay_seconds=RETRY_DELAYS,
        retry_jitter_factor=0.5,
        retry_condition_fn=_is_transient,
    )
    def run_stage_unit(stage: str, unit: int, root: str, config: dict[str, Any], planned: dict[str, Any]) -> Any:
        """Outcome's fields as a mapping; arguments are plain so that any machine can run it.

        A user error becomes a failed state whose message is that one sentence, without a traceback.
        """
        set_up_process()
        try:
            of_unit = unit, root, BuildConfig.model_validate(config), UnitTask(**planned)
            return asdict(pool.run_unit(*of_unit) if pool else run_unit(BY_NAME[stage], *of_unit))
        except SurdError as error:
            return Failed(message=str(error), data=error)

    return run_stage_unit


def run_stage(stage: Stage, planner: Planner, runner: TaskRunner[Any], listeners: Iterable[Listener]) -> list[Outcome]:
    """Run the units of a stage that are not done, keeping the listeners up to date."""
    build, config, plan = planner.build, planner.config, planner.plan(stage)
    outcomes = [skipped(stage, unit, rows) for unit, rows in plan.done.items()]
    count = len(outcomes) + len(plan.tasks)
    for listener in listeners:
        listener.stage_started(stage.name, count)
        listener.progress(len(outcomes), count)
    watch = FetchWatch(build, outcomes) if stage.name == "fetch" and plan.tasks else None
    poll = partial(_publish, watch, listeners) if watch else None
    with _stage_runner(stage, len(plan.tasks), config, runner) as (stage_runner, pool):
        for outcome in _run_units(stage, plan.tasks, build.root, config, stage_runner, pool, poll):
            outcomes.append(outcome)
            planner.check()
            for listener in listeners:
                listener.progress(len(outcomes), count)
            if watch:
                watch.unit_done(outcome)
                _publish(watch, listeners)
    if plan.tasks:
        planner.ran(stage)
    if stage.scope == "shard":  # the other stages have nothing to finish, and loading them here would import torch
        finish(stage, build.root, config)
    for listener in listeners:
        listener.stage_done(stage.name, StageSummary.of(outcomes, unusable_note(build, stage.name)))
    return outcomes


def _publish(watch: FetchWatch, listeners: Iterable[Listener]) -> None:
    progress = watch.now()
    for listener in listeners:
        listener.fetching(progress)


def _run_units(
    stage: Stage,
    tasks: list[UnitTask],
    root: str,
    config: BuildConfig,
    runner: TaskRunner[Any],
    pool: FetchProcesses | None,
    poll: Callable[[], None] | None,
) -> Iterator[Outcome]:
    """Run units of a stage and yield their outcomes in order; call ``poll`` every second.

    Every unit is waited for before a failed one raises: an unfinished neighbour would be lost, and a future that is
    only handed on would turn a failure into a None.
    """
    unit_task = make_unit_task(pool).with_options(name=stage.name, task_run_name=f"{stage.name}-{{unit}}")
    plain = config.model_dump(mode="json")
    parameters = [
        {"stage": stage.name, "unit": planned.unit, "root": root, "config": plain, "planned": asdict(planned)}
        for planned in tasks
    ]
    futures = [runner.submit(unit_task, values) for values in parameters]
    failed = []
    for future in futures:
        future.wait(timeout=1.0 if poll else None)
        while poll and not future.state.is_final():
            poll()
            future.wait(timeout=1.0)
        if future.state.is_completed():
            yield Outcome(**future.result())
        else:
            failed.append(future)
    for future in failed:
        future.result(raise_on_failure=True)


@contextmanager
def _stage_runner(
    stage: Stage, count: int, config: BuildConfig, runner: TaskRunner[Any]
) -> Iterator[tuple[TaskRunner[Any], FetchProcesses | None]]:
    """The build's runner; for a fetch large enough for several processes, their pool and a thread to wait for each."""
    several = processes(config, count) if stage.name == "fetch" and config.runner == "threads" else 1
    if several == 1:
        yield runner, None
        return
    threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=several)
    with threads, FetchProcesses(several) as pool:
        yield threads, pool


@contextmanager
def task_runner(config: BuildConfig) -> Iterator[TaskRunner[Any]]:
    """Where units run. A flow's own runner is fixed before its config is read, so this one is opened inside it."""
    if config.runner == "threads":
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=config.workers)
        with threads:
            yield threads
        return
    try:
        from prefect_ray import RayTaskRunner
    except ModuleNotFoundError:
        raise SurdError("runner is 'ray': prefect-ray is not installed; install it: pip install 'surd[ray]'") from None
    if get_current_settings().api.url is None:
        # Each Ray worker would start a Prefect server of its own.
        raise SurdError(
            "runner is 'ray': PREFECT_API_URL is not set, and Ray needs a Prefect server; start one with prefect server"
            " start, then set PREFECT_API_URL to its address"
        )
    with RayTaskRunner() as ray:
        yield ray
