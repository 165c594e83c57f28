"""Runs all units of one stage, or of several that flow: on threads, in a pool of processes, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue

from surd.flows.chains import places
from surd.flows.devices import gpus_here, placed, thread_devices
from surd.flows.executors import ContextThreads, RayExecutor
from surd.flows.fetch_watch import FetchWatch
from surd.flows.host_requests import with_cluster_limits
from surd.flows.limits import slots
from surd.flows.listener import Listener, StageSummary
from surd.flows.ray_cluster import gpus_of_task, ray_executor
from surd.flows.record_watch import RecordWatch
from surd.flows.windows import Journey, run_one, run_windows
from surd.pipeline.build.progress import remove_leftovers
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.runner.plan import Planner, UnitTask
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, skipped
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import BuildConfig, SurdError


def run_stages(
    chain: Sequence[Stage], planner: Planner, runner: Executor, listeners: Iterable[Listener]
) -> list[Outcome]:
    """Run the units that are not done of a stage, or of the stages of a chain, keeping the listeners up to date.

    In a chain a unit goes on to the next stage as soon as it is done; each place that stages wait for has threads of
    its own, ``config.workers`` of them.
    """
    config, listeners = planner.config, tuple(listeners)
    steps: list[_Step] = []
    for stage in chain:
        since = chain[0].name if len(chain) > 1 else None
        steps.append(_Step(stage, planner, listeners, steps[-1].pending() if steps else frozenset(), since))
    units = sorted(set().union(*(step.pending() for step in steps)))

    def journey(unit: int) -> Journey:
        for step in steps:
            if task := step.task(unit):
                step.done((yield step.start(task)))

    def poll() -> None:
        for step in steps:
            step.poll()

    with ExitStack() as opened:
        runners: dict[frozenset[str], Executor] = {}
        for step in steps:
            place = places(step.stage, config)
            if place not in runners:
                others = bool(runners) and config.runner == "threads"
                runners[place] = opened.enter_context(ContextThreads(config.workers)) if others else runner
            step.submit = opened.enter_context(_submitting(step.stage, len(step.pending()), planner, runners[place]))
        run_windows("-".join(stage.name for stage in chain), units, journey, poll, partial(slots, chain, config))
    return [outcome for step in steps for outcome in step.outcomes]


class _Step:
    """One stage on the way of the units: what is done, what is to be run, and ``waiting``, what is not known yet."""

    submit: Callable[[UnitTask], Future[Outcome | SurdError]]

    def __init__(
        self, stage: Stage, planner: Planner, listeners: Sequence[Listener], waiting: Set[int], since: str | None
    ) -> None:
        self.stage = stage
        self._planner, self._listeners, self._waiting, self._since = planner, listeners, waiting, since
        plan = planner.plan(stage, waiting, since)
        self._tasks = {task.unit: task for task in plan.tasks}
        self.outcomes = [skipped(stage, unit, rows) for unit, rows in plan.done.items()]
        self._count = len(self.outcomes) + len(self.pending())
        images, runs = stage.name == "fetch", bool(self._tasks or waiting)
        if runs and stage.scope in ("partition", "shard"):
            remove_leftovers(planner.build, stage.name)
        self._watch = FetchWatch(planner.build, self.outcomes) if images and runs else None
        self._records = RecordWatch(stage, planner, self.outcomes) if runs and not images else None
        for listener in listeners:
            listener.stage_started(stage.name, self._count)
        self._progressed()

    def pending(self) -> Set[int]:
        """The units that may have to run."""
        return self._tasks.keys() | self._waiting

    def task(self, unit: int) -> UnitTask | None:
        """What is to be run of a unit whose way has come to this stage."""
        if unit not in self._waiting:
            return self._tasks.get(unit)
        found = self._planner.plan_unit(self.stage, unit, self._since)
        if isinstance(found, UnitTask):
            return found
        self.done(skipped(self.stage, unit, found))
        return None

    def start(self, task: UnitTask) -> Future[Outcome | SurdError]:
        """Hand a unit to where it runs."""
        if self._records:
            self._records.unit_started(task.unit)
        return self.submit(task)

    def done(self, outcome: Outcome) -> None:
        """A unit has run, or was found done."""
        self._planner.check()
        if outcome.marker:
            self._planner.ended(outcome.marker)
        self.outcomes.append(outcome)
        if self._records:
            self._records.unit_done(outcome)
        if self._watch:
            self._watch.unit_done(outcome)
            self.poll()
        self._progressed()

    def poll(self) -> None:
        """Publish what is known of units that are running."""
        if self._watch:
            progress = self._watch.now()
            for listener in self._listeners:
                listener.fetching(progress)
        elif self._records:
            self._records.look()
            self._tell_records()

    def _progressed(self) -> None:
        for listener in self._listeners:
            listener.progress(self.stage.name, len(self.outcomes), self._count)
        self._tell_records()
        if len(self.outcomes) == self._count:
            self._finish()

    def _tell_records(self) -> None:
        if self._records and self._records.total:
            progress = self._records.now()
            for listener in self._listeners:
                listener.records(self.stage.name, progress)

    def _finish(self) -> None:
        self._watch = self._records = None  # a stage behind it may still run, and none expects more of this one
        build, config = self._planner.build, self._planner.config
        if self.pending():
            self._planner.ran(self.stage)
        if self.stage.scope == "shard":  # the others have nothing to finish, and loading them here would import torch
            finish(self.stage, build.root, config)
        summary = StageSummary.of(self.outcomes, unusable_note(build, self.stage.name))
        for listener in self._listeners:
            listener.stage_done(self.stage.name, summary)


@contextmanager
def _submitting(
    stage: Stage, count: int, planner: Planner, runner: Executor
) -> Iterator[Callable[[UnitTask], Future[Outcome | SurdError]]]:
    """A function that hands a unit of the stage to where its units run."""
    root, config = planner.build.root, planner.config
    with _stage_runner(stage, count, config, runner) as (stage_runner, pool):
        devices = thread_devices(config, stage.name, gpus_here(config))
        run = pool.run_unit if pool else partial(_run_unit, stage.name, devices)
        if stage.name == "fetch" and isinstance(stage_runner, RayExecutor):
            run = partial(with_cluster_limits, run)
        yield lambda task: stage_runner.submit(run_one, run, task.unit, root, config, task)


def _run_unit(
    stage: str, devices: SimpleQueue[str] | None, unit: int, root: str, config: BuildConfig, task: UnitTask
) -> Outcome:
    """One unit, in the thread or Ray's process that calls this; with one of ``devices`` to itself, if there are any."""
    set_up_process()
    with placed(config, devices) as here:
        return run_unit(BY_NAME[stage], unit, root, here, task)


@contextmanager
def _stage_runner(
    stage: Stage, count: int, config: BuildConfig, runner: Executor
) -> Iterator[tuple[Executor, FetchProcesses | None]]:
    """Where units of the stage run: on ``runner``; for a fetch large enough for several processes, their pool and a
    thread to wait for each; on Ray as tasks of its name, with a GPU each where the stage can use it."""
    if isinstance(runner, RayExecutor):
        yield RayExecutor(stage.name, gpus_of_task(config, stage.name)), None
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
