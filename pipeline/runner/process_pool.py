"""A process pool for fetch, whose processes share the limits per host.

One event loop gets some 900 images a second (`make bench-fetch`), however many cores there are. With partitions enough,
as many processes as cores each fetch one at a time; the requests that ``fetch`` may have under way are divided between
them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from surd.pipeline.net import rate_limit
from surd.pipeline.net.rate_limit import Starts
from surd.pipeline.runner.plan import UnitTask
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import Outcome, run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, SurdError

RECORDS_EACH = 4000  # below that the second it takes to start a process, and the last partitions, are not worth it


def processes(config: BuildConfig, partitions: int) -> int:
    """How many processes fetch so many partitions: what the config says, or one a core where each has enough to do.

    No more than there are partitions, or requests that may be under way at one host and at all.
    """
    most = min(partitions, config.fetch.concurrency, config.fetch.per_host_concurrency)
    worthwhile = min(os.cpu_count() or 1, partitions * config.partition_size // RECORDS_EACH)
    return max(1, min(most, config.fetch.processes or worthwhile))


class FetchProcesses:
    """So many processes, started as they are needed. Use it in a with block; they die with it, or with this process."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take threads' locks along
        starts: Starts = context.Array("d", rate_limit.SHARED_HOSTS, lock=False)
        theirs, self._alive = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            count, context, initializer=_begin, initargs=(theirs, count, starts, context.Lock())
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self._alive.close()  # ends the processes: their results are no longer needed
        self._pool.shutdown(cancel_futures=True)
        self._alive.close()

    def run_unit(self, unit: int, root: str, config: BuildConfig, task: UnitTask | None = None) -> Outcome:
        """As pipeline.runner.run_unit.run_unit does, in one of the processes; waits for it."""
        try:
            return self._pool.submit(_fetch, unit, root, config.model_dump(mode="json"), task).result()
        except BrokenProcessPool:
            raise SurdError(
                f"fetch: a process was killed while it fetched partition {unit}, perhaps because memory ran out; "
                "run again (it continues where it stopped), with a smaller fetch.processes"
            ) from None


def _begin(alive: Connection[Any, Any], count: int, starts: Starts, lock: AbstractContextManager[Any]) -> None:
    """What a new process does first."""
    set_up_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    rate_limit.share_between(count, starts, lock)


def _end_with(alive: Connection[Any, Any]) -> None:
    """End when the other end of the pipe does: a process left behind would write into files of the next run."""
    alive.poll(None)
    os._exit(1)


def _fetch(unit: int, root: str, config: dict[str, object], task: UnitTask | None) -> Outcome:
    return run_unit(BY_NAME["fetch"], unit, root, BuildConfig.model_validate(config), task)
