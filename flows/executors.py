"""Where units run, as executors of ``concurrent.futures``: threads that know their task run, or Ray's processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any

from surd.schemas import SurdError


class ContextThreads(ThreadPoolExecutor):
    """Threads that take the caller's context along: Prefect finds there which task run a log line belongs to."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of any executor."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


class RayExecutor(Executor):
    """Runs every call as a Ray task; a task whose node is lost runs again on another, as is Ray's default."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of any executor. What is passed is pickled, and surd must be installed on the other machine."""
        future: Future[Any] = _remote(fn).remote(*args, **kwargs).future()
        return future


@cache
def _remote(function: Callable[..., Any]) -> Any:
    """Once for each function: Ray keeps a copy for every time it is made."""
    import ray

    return ray.remote(function)


@contextmanager
def ray_executor() -> Iterator[Executor]:
    """Ray's processes: of the cluster at RAY_ADDRESS, or of a new one on this machine."""
    try:
        import ray
    except ModuleNotFoundError:
        raise SurdError("runner is 'ray': ray is not installed; install it: pip install 'surd[ray]'") from None
    ray.init()
    try:
        yield RayExecutor()
    finally:
        ray.shutdown()
