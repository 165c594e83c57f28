"""The Ray cluster that runs a build's tasks: a local one, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner

from surd.flows.devices import gpu_roles
from surd.flows.ray_address import check_address, unreachable
from surd.pipeline.models.check import device_setting
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, SurdError
from surd.schemas.errors import one_line


@contextmanager
def ray_runner(config: BuildConfig) -> Iterator[TaskRunner[Any]]:
    """Prefect's task runner on Ray. Raises SurdError where there is no such cluster, or not what the config needs."""
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
    check_address()
    runner: TaskRunner[Any] = RayTaskRunner()
    try:
        runner.__enter__()
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:  # whatever Ray makes of an address
        if not os.environ.get("RAY_ADDRESS"):
            raise
        raise unreachable(one_line(error, 120)) from None
    try:
        check_devices(config, _cluster_gpus())
        yield runner
    finally:
        runner.__exit__(None, None, None)


def check_devices(config: BuildConfig, gpus: int) -> None:
    """Raises SurdError when models ask for a GPU that no task on this cluster can have."""
    for role in dict.fromkeys(role for stage in STAGES for role in gpu_roles(config, stage.name)):
        field, device = device_setting(role, config)
        if device.startswith("cuda") and not gpus:
            raise SurdError(f"{field} is {device!r}: the Ray cluster has no GPU; use auto or cpu, or add one that has")
        if device.startswith("cuda:"):
            raise SurdError(f"{field} is {device!r}: a task on Ray sees only the GPU that it was given; use cuda")


def task_options(config: BuildConfig, stage: str) -> AbstractContextManager[Any]:
    """What the tasks of a stage ask of Ray: a GPU each, where the cluster has one that they can use.

    Ray sets CUDA_VISIBLE_DEVICES to it, so that each task's ``cuda`` is another one.
    """
    if config.runner != "ray" or not gpu_roles(config, stage) or not _cluster_gpus():
        return nullcontext()
    from prefect_ray.context import remote_options

    return remote_options(num_gpus=1)


def _cluster_gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
