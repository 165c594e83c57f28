"""Runs units in windows of some hundred: Prefect has one task run for each window, and none for a unit.

A task run takes 20 KB of the server's database; the trade-off is that its page shows windows and no single partition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec

import httpx
import stamina
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from surd.pipeline.batching import batched
from surd.pipeline.runner.run_unit import Outcome
from surd.schemas import SurdError

WINDOW = 256  # units: few enough that the wait for the slowest at the end is short beside the whole
RETRIES = 3
EVERY = 1.0  # seconds between two polls

P = ParamSpec("P")
Slots = Callable[[], AbstractContextManager[None]]
#: A unit's way through one stage or several: yields what runs now, and is sent its outcome.
Journey = Generator[Future[Outcome | SurdError], Outcome, None]


def run_windows(
    name: str,
    units: Iterable[int],
    journey: Callable[[int], Journey],
    poll: Callable[[], None] = lambda: None,
    slots: Slots = nullcontext,
) -> None:
    """Run the journeys of ``units`` window by window; call ``poll`` every second.

    Each window runs inside ``slots()``, which may wait until other builds let it begin. All units of all windows are
    tried before the first failure is raised, since what a neighbour finishes is kept. Journeys go on in this thread.
    """
    states = [_run_window(name, window, journey, poll, slots) for window in batched(units, WINDOW)]
    for state in states:
        state.result(raise_on_failure=True)


def _run_window(
    name: str,
    window: Sequence[int],
    journey: Callable[[int], Journey],
    poll: Callable[[], None],
    slots: Slots,
) -> State[Any]:
    # Prefect's cache stays off: its keys know neither the config nor the models, our markers know both.
    @task(name=name, task_run_name=f"{name}-{{first}}-{{last}}", cache_policy=NO_CACHE, persist_result=False)
    def run_window(first: int, last: int) -> Any:
        """A user error becomes a failed state whose message is that one sentence, without a traceback."""
        with slots():
            errors = _run(window, journey, poll)
        for error in errors:
            if isinstance(error, SurdError):
                return Failed(message=str(error), data=error)
            raise error
        return None

    return run_window(window[0], window[-1], return_state=True)


def _run(window: Sequence[int], journey: Callable[[int], Journey], poll: Callable[[], None]) -> list[BaseException]:
    """Run all units of a window and return what went wrong, in the order of the units."""
    errors: dict[int, BaseException] = {}
    running: dict[int, tuple[Journey, Future[Outcome | SurdError]]] = {}
    ended: SimpleQueue[int] = SimpleQueue()
    polled = time.monotonic()

    def go_on(unit: int, steps: Journey, outcome: Outcome | None) -> None:
        try:
            future = next(steps) if outcome is None else steps.send(outcome)
        except StopIteration:
            return
        running[unit] = steps, future
        future.add_done_callback(lambda _: ended.put(unit))

    try:
        for unit in window:
            go_on(unit, journey(unit), None)
        while running:
            if time.monotonic() - polled >= EVERY:
                poll()
                polled = time.monotonic()
            try:
                unit = ended.get(timeout=EVERY)
            except Empty:
                continue
            steps, future = running.pop(unit)
            outcome = future.exception() or future.result()
            if isinstance(outcome, BaseException):
                errors[unit] = outcome
            else:
                go_on(unit, steps, outcome)
    finally:
        for _, future in running.values():  # none is left, unless the run is cancelled
            future.cancel()
    return [errors[unit] for unit in sorted(errors)]


def run_one(run: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> Outcome | SurdError:
    """Run one unit; after a disk or network fault up to three times more, 2 s to 16 s apart.

    A user error is returned: raised on another machine, it would come back inside an exception of Ray's.
    """
    try:
        for attempt in stamina.retry_context(
            on=(OSError, httpx.HTTPError), attempts=RETRIES + 1, timeout=None, wait_initial=2, wait_max=16
        ):
            with attempt:
                return run(*args, **kwargs)
    except SurdError as error:
        return error
    raise AssertionError("stamina either returns or raises")
