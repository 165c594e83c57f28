"""Runs all units of one stage: on threads, in a pool of processes, or on Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from surd.flows.devices import gpus_here, placed, thread_devices
from surd.flows.executors import ContextThreads, RayExecutor
from surd.flows.fetch_watch import FetchWatch
from surd.flows.host_requests import with_cluster_limits
from surd.flows.limits import slots
from surd.flows.listener import Listener, StageSummary
from surd.flows.ray_cluster import gpus_of_task, ray_executor
from surd.flows.windows import run_one, run_windows
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.runner.plan import Planner, UnitTask
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, skipped
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import BuildConfig, SurdError


def run_stage(stage: Stage, planner: Planner, runner: Executor, listeners: Iterable[Listener]) -> list[Outcome]:
    """Run the units of a stage that are not done, keeping the listeners up to date."""
    build, config, plan = planner.build, planner.config, planner.plan(stage)
    tasks = {task.unit: task for task in plan.tasks}
    outcomes = [skipped(stage, unit, rows) for unit, rows in plan.done.items()]
    count = len(outcomes) + len(tasks)
    for listener in listeners:
        listener.stage_started(stage.name, count)
        listener.progress(len(outcomes), count)
    watch = FetchWatch(build, outcomes) if stage.name == "fetch" and tasks else None
    poll = partial(_publish, watch, listeners) if watch else None

    def unit_done(outcome: Outcome) -> None:
        planner.check()
        outcomes.append(outcome)
        for listener in listeners:
            listener.progress(len(outcomes), count)
        if watch:
            watch.unit_done(outcome)
            _publish(watch, listeners)

    with _stage_runner(stage, len(tasks), config, runner) as (stage_runner, pool):
        devices = thread_devices(config, stage.name, gpus_here(config))
        run = pool.run_unit if pool else partial(_run_unit, stage.name, devices)
        if stage.name == "fetch" and isinstance(stage_runner, RayExecutor):
            run = partial(with_cluster_limits, run)

        def submit(unit: int) -> Future[Outcome | SurdError]:
            return stage_runner.submit(run_one, run, unit, build.root, config, tasks[unit])

        run_windows(stage.name, tasks, submit, unit_done, poll, partial(slots, stage, config))
    if tasks:
        planner.ran(stage)
    if stage.scope == "shard":  # the other stages have nothing to finish, and loading them here would import torch
        finish(stage, build.root, config)
    for listener in listeners:
        listener.stage_done(stage.name, StageSummary.of(outcomes, unusable_note(build, stage.name)))
    return outcomes


def _run_unit(
    stage: str, devices: SimpleQueue[str] | None, unit: int, root: str, config: BuildConfig, task: UnitTask
) -> Outcome:
    """One unit, in the thread or Ray's process that calls this; with one of ``devices`` to itself, if there are any."""
    set_up_process()
    with placed(config, devices) as here:
        return run_unit(BY_NAME[stage], unit, root, here, task)


def _publish(watch: FetchWatch, listeners: Iterable[Listener]) -> None:
    progress = watch.now()
    for listener in listeners:
        listener.fetching(progress)


@contextmanager
def _stage_runner(
    stage: Stage, count: int, config: BuildConfig, runner: Executor
) -> Iterator[tuple[Executor, FetchProcesses | None]]:
    """The build's runner; for a fetch large enough for several processes, their pool and a thread to wait for each; on
    Ray one whose tasks have a GPU each, where the stage can use it."""
    if isinstance(runner, RayExecutor):
        yield RayExecutor(gpus_of_task(config, stage.name)), None
        return
    several = processes(config, count) if stage.name == "fetch" and config.runner == "threads" else 1
    if several == 1:
        yield runner, None
        return
    with ThreadPoolExecutor(several) as threads, FetchProcesses(several) as pool:
        yield threads, pool


@contextmanager
def unit_runner(config: BuildConfig) -> Iterator[Executor]:
    """Where units run. A flow's own task runner is fixed before its config is read, so this is opened inside it."""
    with ray_executor(config) if config.runner == "ray" else ContextThreads(config.workers) as executor:
        yield executor
