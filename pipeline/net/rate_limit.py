"""Per-host concurrency and rate limits, shared by threads and processes.

A host's limits hold for the whole process, over every partition and event loop that runs in it. After
``share_between`` they hold over several processes: each may have its part of the requests at once, and one clock keeps
the starts of all apart.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, MutableSequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline.rejection import Rejected
from surd.schemas import Reason

#: When each host may be asked next, in seconds of the monotonic clock, which is one for all processes of a machine.
Starts = MutableSequence[float]
SHARED_HOSTS = 2**18  # two hosts that meet in one place keep to one clock: slower than need be, never too fast
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Slots:
    """What one event loop bears: ``size`` requests at once, and none begins while ``size`` bodies wait to be used."""

    def __init__(self, size: int) -> None:
        self._size, self._in_hand = size, 0
        self._requests = asyncio.Semaphore(size)
        self._room = asyncio.Event()
        self._room.set()

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """The slot of one request."""
        await self.take()
        try:
            yield
        finally:
            self.give_back()

    async def take(self) -> None:
        """Take a slot, once there is one and room for a body."""
        await self._requests.acquire()
        try:
            await self._room.wait()
        except BaseException:
            self._requests.release()
            raise

    def give_back(self) -> None:
        self._requests.release()

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """A body from its arrival until it is used."""
        self._in_hand += 1
        if self._in_hand >= self._size:
            self._room.clear()
        try:
            yield
        finally:
            self._in_hand -= 1
            if self._in_hand < self._size:
                self._room.set()


class HostLimit:
    """One host: at most ``concurrency`` requests at once, and starts at least ``1 / rate`` seconds apart."""

    def __init__(self, concurrency: int, rate: float | None, clock: _Clock | None = None) -> None:
        self._free = concurrency
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock or _Clock([0.0], 0, threading.Lock())
        self._waiting: deque[_Waiter] = deque()
        self._lock = threading.Lock()  # loops of several threads meet here

    def request(self, patience: float, slots: Slots) -> _Turn:
        """The place and time of one request, and one of the ``slots`` that all hosts share: an async context manager.

        A slot is taken when the time has come, so that a host that makes wait keeps none from the others, and given
        back if by then the time is another's. Raises Rejected where the host wants a longer pause than ``patience``
        seconds, also when it says so while this request is waiting.
        """
        return _Turn(self, patience, slots)

    async def begin(self, patience: float, slots: Slots) -> None:
        """Wait for the turn of a request; whoever gets it calls ``end``."""
        await self._enter()
        try:
            while True:
                while (wait := self._clock.wait()) > 0:
                    if wait > patience:
                        detail = f"the host wants no request for {wait:.0f} more seconds"
                        raise Rejected(Reason.HTTP_ERROR, detail, transient=True)
                    await asyncio.sleep(wait)
                await slots.take()
                if self._clock.start(self._interval):
                    return
                slots.give_back()
        except BaseException:
            self._leave()
            raise

    def end(self, slots: Slots) -> None:
        """The request is over."""
        slots.give_back()
        self._leave()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long: the host asked for it."""
        self._clock.pause(seconds)

    def slow_down(self, interval: float) -> None:
        """Keep at least so many seconds between starts: a Crawl-delay."""
        with self._lock:
            self._interval = max(self._interval, interval)

    async def _enter(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            waiter = (loop, turn)
            self._waiting.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                queued = waiter in self._waiting
                if queued:
                    self._waiting.remove(waiter)
            if not queued:  # the place was handed over in the same moment: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                if loop is _running_loop():  # to wake a loop from within takes two system calls
                    _wake(turn)
                    return
                try:
                    loop.call_soon_threadsafe(_wake, turn)
                    return
                except RuntimeError:  # that loop is closed; nobody waits there any more
                    continue
            self._free += 1


class _Clock:
    """When one host may be asked next: one number of ``starts``, which threads and processes may share."""

    def __init__(self, starts: Starts, place: int, lock: AbstractContextManager[Any]) -> None:
        self._starts, self._place, self._lock = starts, place, lock

    def wait(self) -> float:
        """Seconds until the next start; none where that is below zero."""
        return self._starts[self._place] - time.monotonic()

    def start(self, interval: float) -> bool:
        """Take the next start if it is due; the one after it comes no earlier than ``interval`` seconds later."""
        with self._lock:
            now = time.monotonic()
            if self._starts[self._place] > now:
                return False
            self._starts[self._place] = now + interval
            return True

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._starts[self._place] = max(self._starts[self._place], time.monotonic() + seconds)


class _Turn:
    """The turn of one request at a host, as an async context manager (one by contextlib costs more than the rest)."""

    __slots__ = ("_limit", "_patience", "_slots")

    def __init__(self, limit: HostLimit, patience: float, slots: Slots) -> None:
        self._limit, self._patience, self._slots = limit, patience, slots

    async def __aenter__(self) -> None:
        await self._limit.begin(self._patience, self._slots)

    async def __aexit__(self, *_: object) -> None:
        self._limit.end(self._slots)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What this process has to itself: of requests at once one part in ``processes``."""

    processes: int = 1
    starts: Starts | None = None
    lock: AbstractContextManager[Any] = field(default_factory=threading.Lock)

    def clock(self, host: str) -> _Clock | None:
        if self.starts is None:
            return None
        return _Clock(self.starts, zlib.crc32(host.encode()) % len(self.starts), self.lock)


_SHARE = _Share()
_LIMITS: dict[tuple[str, int, float | None], HostLimit] = {}
_LIMITS_LOCK = threading.Lock()


def share_between(processes: int, starts: Starts, lock: AbstractContextManager[Any]) -> None:
    """From now on keep to one part in ``processes`` of all limits; the others have the same ``starts`` and ``lock``."""
    global _SHARE
    _SHARE = _Share(processes=processes, starts=starts, lock=lock)


def per_process(limit: int) -> int:
    """What this process may take of what all may take together."""
    return max(1, limit // _SHARE.processes)


def host_limit(host: str, concurrency: int, rate: float | None) -> HostLimit:
    """The limit of a host (name and port) in this process."""
    with _LIMITS_LOCK:
        if (found := _LIMITS.get((host, concurrency, rate))) is None:
            found = HostLimit(per_process(concurrency), rate, _SHARE.clock(host))
            _LIMITS[host, concurrency, rate] = found
        return found
