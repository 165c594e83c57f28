"""Where units run, as executors of ``concurrent.futures``: threads that know their task run, or Ray's processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any


class ContextThreads(ThreadPoolExecutor):
    """Threads that take the caller's context along: Prefect finds there which task run a log line belongs to."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of any executor."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


class RayExecutor(Executor):
    """Runs every call as a Ray task; a task whose node is lost runs again on another, as is Ray's default.

    ``name`` is the tasks' name: Ray shares a cluster that is full between tasks of different names, so that a stage
    does not wait for all units of the one before it. With ``gpus`` each task has so many to itself: Ray sets
    CUDA_VISIBLE_DEVICES to them.
    """

    def __init__(self, name: str = "unit", gpus: int = 0) -> None:
        self._name, self._gpus = name, gpus

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of any executor. What is passed is pickled, and surd must be installed on the other machine."""
        future: Future[Any] = _remote(fn, self._name, self._gpus).remote(*args, **kwargs).future()
        return future


@cache
def _remote(function: Callable[..., Any], name: str, gpus: int) -> Any:
    """Once for each function and name: Ray keeps a copy for every time it is made."""
    import ray

    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    run.__name__ = run.__qualname__ = name
    return ray.remote(num_gpus=gpus)(run)
