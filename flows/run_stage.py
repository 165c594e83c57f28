"""Runs all units of one stage as Prefect tasks: on threads, in a pool of processes, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff

from surd.flows.devices import gpus_here, placed, thread_devices
from surd.flows.fetch_watch import FetchWatch
from surd.flows.listener import Listener, StageSummary
from surd.flows.ray_cluster import ray_runner, task_options
from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, units
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import BuildConfig, SurdError

RETRY_DELAYS = exponential_backoff(backoff_factor=2)


def _is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to retry: after a disk or network fault, but neither after a user error nor after a bug."""
    return isinstance(state.result(raise_on_failure=False), OSError | httpx.HTTPError)


def make_unit_task(pool: FetchProcesses | None, devices: SimpleQueue[str] | None = None) -> Task[..., Any]:
    """The task that runs one unit of one stage: in ``pool``, or without one where the task itself runs; with one of
    ``devices`` to itself, if there are any.

    On other machines (Ray) there is neither, and all that travels is the task and its plain arguments.
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
    def run_stage_unit(stage: str, unit: int, root: str, config: dict[str, Any]) -> Any:
        """Outcome's fields as a mapping; arguments are plain so that any machine can run it.

        A user error becomes a failed state whose message is that one sentence, without a traceback.
        """
        set_up_process()
        try:
            with placed(BuildConfig.model_validate(config), devices) as parsed:
                if pool:
                    return asdict(pool.run_unit(unit, root, parsed))
                return asdict(run_unit(BY_NAME[stage], unit, root, parsed))
        except SurdError as error:
            return Failed(message=str(error), data=error)

    return run_stage_unit


def run_stage(
    stage: Stage, build: Build, config: BuildConfig, runner: TaskRunner[Any], listeners: Iterable[Listener]
) -> list[Outcome]:
    """Run all units of a stage, keeping the listeners up to date."""
    count = units(stage, build)
    for listener in listeners:
        listener.stage_started(stage.name, count)
    watch = FetchWatch(build) if stage.name == "fetch" else None
    poll = partial(_publish, watch, listeners) if watch else None
    outcomes = []
    with _stage_runner(stage, count, config, runner) as (stage_runner, pool):
        for outcome in _run_units(stage, count, build.root, config, stage_runner, pool, poll):
            outcomes.append(outcome)
            for listener in listeners:
                listener.progress(len(outcomes), count)
            if watch:
                watch.unit_done(outcome)
                _publish(watch, listeners)
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
    count: int,
    root: str,
    config: BuildConfig,
    runner: TaskRunner[Any],
    pool: FetchProcesses | None,
    poll: Callable[[], None] | None,
) -> Iterator[Outcome]:
    """Run all units of a stage and yield their outcomes in order; call ``poll`` every second.

    Every unit is waited for before a failed one raises: an unfinished neighbour would be lost, and a future that is
    only handed on would turn a failure into a None.
    """
    devices = thread_devices(config, stage.name, gpus_here(config))
    unit_task = make_unit_task(pool, devices).with_options(name=stage.name, task_run_name=f"{stage.name}-{{unit}}")
    plain = config.model_dump(mode="json")
    parameters = [{"stage": stage.name, "unit": unit, "root": root, "config": plain} for unit in range(count)]
    with task_options(config, stage.name):
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
    with ray_runner(config) as ray:
        yield ray
