"""Which device the models of a task take, where several tasks run at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from surd.pipeline.models import gpu_count
from surd.pipeline.models.check import device_setting, roles_needed
from surd.schemas import BuildConfig
from surd.schemas.model_ref import server_ref


def gpu_roles(config: BuildConfig, stage: str) -> list[str]:
    """What a stage loads that takes a GPU if it can: all but servers and what has another device of its own."""
    loaded = [role for role, stages in roles_needed(config).items() if stage in stages]
    on_gpu = [role for role in loaded if device_setting(role, config)[1].partition(":")[0] in ("auto", "cuda")]
    return [role for role in on_gpu if _is_placed(role, config)]


def thread_devices(config: BuildConfig, stage: str, gpus: int) -> SimpleQueue[str] | None:
    """One device for each worker thread of a stage, spread over so many GPUs; None where there is nothing to spread."""
    if gpus < 2 or config.workers < 2 or config.models.device not in ("auto", "cuda") or not gpu_roles(config, stage):
        return None
    devices: SimpleQueue[str] = SimpleQueue()
    for worker in range(config.workers):
        devices.put(f"cuda:{worker % gpus}")
    return devices


@contextmanager
def placed(config: BuildConfig, devices: SimpleQueue[str] | None) -> Iterator[BuildConfig]:
    """The config with a device that no other worker has meanwhile, if there are any; the outcome does not name it."""
    if devices is None:
        yield config
        return
    device = devices.get()
    try:
        yield config.model_copy(update={"models": config.models.model_copy(update={"device": device})})
    finally:
        devices.put(device)


def gpus_here(config: BuildConfig) -> int:
    """GPUs of this machine, where several threads may want them; torch, which takes a second, is asked only then."""
    if config.runner != "threads" or config.workers < 2:
        return 0
    return gpu_count()


def _is_placed(role: str, config: BuildConfig) -> bool:
    if role.startswith(("facts.", "score.")):
        return False
    if role.startswith("safety."):  # open_nsfw, where none is named, runs on the CPU
        return bool(getattr(config.safety, role.partition(".")[2]))
    return not server_ref(config.models.ref(role))
