"""The Ray cluster that runs a build's tasks: a local one, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from surd.flows.devices import gpu_roles
from surd.flows.executors import RayExecutor
from surd.flows.host_requests import host_requests
from surd.flows.ray_address import check_address, unreachable
from surd.pipeline.models.check import device_setting
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, SurdError
from surd.schemas.errors import one_line


@contextmanager
def ray_executor(config: BuildConfig) -> Iterator[RayExecutor]:
    """Ray's processes: of the cluster at RAY_ADDRESS, or of a new one on this machine.

    Raises SurdError where there is no such cluster, or not what the config needs.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise SurdError("runner is 'ray': ray is not installed; install it: pip install 'surd[ray]'") from None
    check_address()
    mine = not ray.is_initialized()
    try:
        ray.init(ignore_reinit_error=True)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:  # whatever Ray makes of an address
        if not os.environ.get("RAY_ADDRESS"):
            raise
        raise unreachable(one_line(error, 120)) from None
    try:
        check_devices(config, _cluster_gpus())
        with host_requests():
            yield RayExecutor()
    finally:
        if mine:
            ray.shutdown()


def check_devices(config: BuildConfig, gpus: int) -> None:
    """Raises SurdError when models ask for a GPU that no task on this cluster can have."""
    for role in dict.fromkeys(role for stage in STAGES for role in gpu_roles(config, stage.name)):
        field, device = device_setting(role, config)
        if device.startswith("cuda") and not gpus:
            raise SurdError(f"{field} is {device!r}: the Ray cluster has no GPU; use auto or cpu, or add one that has")
        if device.startswith("cuda:"):
            raise SurdError(f"{field} is {device!r}: a task on Ray sees only the GPU that it was given; use cuda")


def gpus_of_task(config: BuildConfig, stage: str) -> int:
    """How many GPUs a task of a stage asks of Ray: one, where the cluster has some that its models can use."""
    return int(bool(gpu_roles(config, stage)) and _cluster_gpus() > 0)


def _cluster_gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
