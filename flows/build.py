"""The flow ``build-surd``: runs every stage over every partition, in order, and skips what is already done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import get_current_settings
from prefect.states import Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff
from pydantic import BaseModel

from surd.flows.artifacts import RunPage, hide_refusals, publish_result
from surd.flows.build_record import check
from surd.flows.cli.fetch_table import FetchWatch
from surd.flows.listener import LISTENER, Listener
from surd.flows.request import default_out, resolve
from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit, units
from surd.pipeline.stages import BY_NAME, STAGES, Stage
from surd.schemas import BuildConfig, SurdError

_BESIDE: ContextVar[FetchProcesses | None] = ContextVar("_BESIDE", default=None)
"""The processes in which units run while fetch uses several."""


def _may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Worth another try: a fault of disk or network, but neither the user's to mend nor a bug in a calculation."""
    return isinstance(state.result(raise_on_failure=False), OSError | httpx.HTTPError)


# Prefect's cache stays off: its keys know neither the config nor the models, our markers know both.
@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_pass,
)
def run_stage_unit(stage: str, unit: int, root: str, config: dict[str, Any]) -> Any:
    """One unit of one stage, as a mapping of Outcome's fields; arguments are plain so that any machine can run it.

    What is the user's to mend becomes a failed state whose message is that one sentence, without a traceback.
    """
    try:
        asked, beside = BuildConfig.model_validate(config), _BESIDE.get()
        return asdict(beside.run_unit(unit, root, asked) if beside else run_unit(BY_NAME[stage], unit, root, asked))
    except SurdError as error:
        return Failed(message=str(error), data=error)


def _with_config_fields(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the flow one keyword per config field, so that Prefect knows, shows and checks them all by name."""
    asked: list[tuple[str, Any, Any, str]] = [
        ("profile", str, "demo", "demo, small, paper, or a path to a YAML file."),
        ("out", str | None, None, "Folder or URL of the build; data/PROFILE when not given."),
    ]
    asked += [
        (name, info.annotation | None, None, info.description or (info.annotation.__doc__ or "").strip())
        for name, info in BuildConfig.model_fields.items()
        if info.annotation is not None and name != "schema_version"
    ]
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default, _ in asked
        ]
    )
    described = "\n".join(f"    {name}: {description}" for name, _, _, description in asked)
    function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{described}\n"  # where Prefect looks for descriptions
    return function


@flow(name="build-surd", persist_result=False)
@_with_config_fields
def build_surd(**asked: Any) -> Any:
    """Build a SURD dataset: every stage from collect to report, partition by partition.

    A section of the config may be given in part; the rest comes from the profile. What is already done is skipped.
    Returns the summary of the build; a mistake of the user's ends the run with one sentence.
    """
    hide_refusals()
    profile, out = asked.pop("profile"), asked.pop("out")
    try:
        config = resolve(profile, {name: _plain(value) for name, value in asked.items() if value is not None})
        return _build(config, _absolute(out or default_out(profile)))
    except SurdError as error:
        return Failed(message=str(error), data=error)


def _build(config: BuildConfig, root: str) -> dict[str, Any]:
    build = Build(root)
    record = check(config, root)
    listeners = (RunPage(), LISTENER.get())
    outcomes: list[Outcome] = []
    with _task_runner(config) as runner:
        for stage in STAGES:
            count = units(stage, build)
            for listener in listeners:
                listener.stage_started(stage.name, count)
            done = []
            watch = FetchWatch(build) if stage.name == "fetch" else None
            meanwhile = partial(_tell, watch, listeners) if watch else None
            with _runner_of(stage, count, config, runner) as mine:
                for outcome in _run_stage(stage, count, root, config, mine, meanwhile):
                    done.append(outcome)
                    for listener in listeners:
                        listener.unit_done(outcome)
                    if watch:
                        watch.unit_done(outcome)
                        _tell(watch, listeners)
            if stage.scope == "shard":  # nobody else has anything to finish, and to ask would import torch
                finish(stage, root, config)
            for listener in listeners:
                listener.stage_done(stage.name, done)
            outcomes += done
            if stage.scope == "source":
                _check_source(build, config)
                build.write_json(
                    "build.json", record
                )  # only now: a bad source must not speak for what was built before
    summary = summarize(build, outcomes)
    publish_result(summary)
    return summary


def _check_source(build: Build, config: BuildConfig) -> None:
    if not build.part_count():
        shown = redact_secrets(config.source)
        raise SurdError(f"source is {shown!r} and gives no records; check it, or name another source")


def _tell(watch: FetchWatch, listeners: Iterable[Listener]) -> None:
    progress = watch.now()
    for listener in listeners:
        listener.fetching(progress)


def _run_stage(
    stage: Stage,
    count: int,
    root: str,
    config: BuildConfig,
    runner: TaskRunner[Any],
    meanwhile: Callable[[], None] | None,
) -> Iterator[Outcome]:
    """Run all units of a stage and yield what became of each, in order; call ``meanwhile`` every second.

    Every unit is waited for before a failed one raises: an unfinished neighbour would be lost, and a future that is
    only handed on would turn a failure into a None.
    """
    unit_task = run_stage_unit.with_options(name=stage.name, task_run_name=f"{stage.name}-{{unit}}")
    plain = config.model_dump(mode="json")
    parameters = [{"stage": stage.name, "unit": unit, "root": root, "config": plain} for unit in range(count)]
    futures = [runner.submit(unit_task, values) for values in parameters]
    failed = []
    for future in futures:
        future.wait(timeout=1.0 if meanwhile else None)
        while meanwhile and not future.state.is_final():
            meanwhile()
            future.wait(timeout=1.0)
        if future.state.is_completed():
            yield Outcome(**future.result())
        else:
            failed.append(future)
    for future in failed:
        future.result(raise_on_failure=True)


@contextmanager
def _runner_of(stage: Stage, count: int, config: BuildConfig, runner: TaskRunner[Any]) -> Iterator[TaskRunner[Any]]:
    """The build's runner, but for a fetch that is large enough for several processes: a thread to watch each."""
    several = processes(config, count) if stage.name == "fetch" and config.runner == "threads" else 1
    if several == 1:
        yield runner
        return
    threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=several)
    with threads, FetchProcesses(several) as beside:
        token = _BESIDE.set(beside)
        try:
            yield threads
        finally:
            _BESIDE.reset(token)


@contextmanager
def _task_runner(config: BuildConfig) -> Iterator[TaskRunner[Any]]:
    """Where units run. A flow's own runner is fixed before its config is read, so this one is opened inside it."""
    if config.runner == "threads":
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=config.workers)
        with threads:
            yield threads
        return
    try:
        from prefect_ray import RayTaskRunner
    except ModuleNotFoundError:
        raise SurdError(
            "runner is 'ray' and prefect-ray is not installed; install it: pip install 'surd[ray]'"
        ) from None
    if get_current_settings().api.url is None:
        # Each Ray worker would start a Prefect server of its own.
        raise SurdError(
            "runner is 'ray' and no Prefect server is set; start one: prefect server start, then set PREFECT_API_URL"
        )
    with RayTaskRunner() as ray:
        yield ray


def _plain(value: Any) -> Any:
    """A section as the mapping the user wrote: fields not given must not hide the profile's."""
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


def _absolute(out: str) -> str:
    return out if "://" in out else str(Path(out).expanduser().resolve())
