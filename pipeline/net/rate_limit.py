"""Per-host concurrency and rate limits, shared by threads and processes.

A host's limits hold for the whole process, over every partition and event loop that runs in it. After
``share_between`` they hold over several processes: each may have its part of the requests at once, and one clock keeps
the starts of all apart. After ``share_through`` they are what somebody else makes them: on a cluster, ``host_tokens``.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableSequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from surd.pipeline.rejection import Rejected
from surd.schemas import Reason

#: The next start allowed for each host, in seconds of the monotonic clock, which all processes of a machine share.
Starts = MutableSequence[float]
SHARED_HOSTS = 2**18  # two hosts that hash to one index share a clock: slower than necessary, never too fast
#: Of a host (name and port), requests at once, requests a second, and seconds until one must be over.
MakeLimiter = Callable[[str, int, float | None, float], "Limiter"]
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Slots:
    """Limits of one event loop: ``size`` requests at once, and no new one while ``size`` bodies wait to be used."""

    def __init__(self, size: int) -> None:
        self._size, self._buffered = size, 0
        self._requests = asyncio.Semaphore(size)
        self._has_room = asyncio.Event()
        self._has_room.set()

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """The slot of one request."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    async def acquire(self) -> None:
        """Take a slot, once one is free and there is room for a body."""
        await self._requests.acquire()
        try:
            await self._has_room.wait()
        except BaseException:
            self._requests.release()
            raise

    def release(self) -> None:
        self._requests.release()

    @contextmanager
    def buffer(self) -> Iterator[None]:
        """Counts a body from its arrival until it is used."""
        self._buffered += 1
        if self._buffered >= self._size:
            self._has_room.clear()
        try:
            yield
        finally:
            self._buffered -= 1
            if self._buffered < self._size:
                self._has_room.set()


class Limiter(Protocol):
    """Limits of one host, wherever they are kept."""

    def request(self, max_wait: float, slots: Slots) -> AbstractAsyncContextManager[None]:
        """One request, once it may start. Raises Rejected if that is more than ``max_wait`` seconds away."""

    def pause(self, seconds: float) -> None:
        """Start nothing for so many seconds: a Retry-After."""

    def slow_down(self, interval: float) -> None:
        """Keep at least so many seconds between starts: a Crawl-delay."""


class HostLimiter:
    """Limits of one host: at most ``concurrency`` requests at once, and starts at least ``1 / rate`` seconds apart."""

    def __init__(self, concurrency: int, rate: float | None, clock: _Clock | None = None) -> None:
        self._free = concurrency
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock or _Clock([0.0], 0, threading.Lock())
        self._waiting: deque[_Waiter] = deque()
        self._lock = threading.Lock()  # several threads, each with its event loop, use one limiter

    def request(self, max_wait: float, slots: Slots) -> _Slot:
        """One request to this host, with one of the ``slots`` that all hosts share: an async context manager.

        The shared slot is taken only once this host's next start is due, so that a slow host keeps none from the
        others, and released if another request has used that start by then. Raises Rejected if the wait is longer
        than ``max_wait`` seconds, also if a pause of that length is set while this request is waiting.
        """
        return _Slot(self, max_wait, slots)

    async def acquire(self, max_wait: float, slots: Slots) -> None:
        """Wait until a request may start; call ``release`` when it is over."""
        await self._enter()
        try:
            while True:
                while (wait := self._clock.wait()) > 0:
                    if wait > max_wait:
                        detail = f"the host wants no request for {wait:.0f} more seconds"
                        raise Rejected(Reason.HTTP_ERROR, detail, transient=True)
                    await asyncio.sleep(wait)
                await slots.acquire()
                if self._clock.start(self._interval):
                    return
                slots.release()
        except BaseException:
            self._leave()
            raise

    def release(self, slots: Slots) -> None:
        """The request is over."""
        slots.release()
        self._leave()

    def pause(self, seconds: float) -> None:
        """Start nothing for so many seconds: a Retry-After."""
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
            if not queued:  # the slot was handed over in the same moment: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                if loop is _running_loop():  # call_soon_threadsafe would cost two system calls
                    _wake(turn)
                    return
                try:
                    loop.call_soon_threadsafe(_wake, turn)
                    return
                except RuntimeError:  # that loop is closed, its waiters are gone
                    continue
            self._free += 1


class _Clock:
    """The next start allowed for one host: an element of ``starts``, which threads and processes may share."""

    def __init__(self, starts: Starts, index: int, lock: AbstractContextManager[Any]) -> None:
        self._starts, self._index, self._lock = starts, index, lock

    def wait(self) -> float:
        """Seconds until the next start is due; zero or less if it is."""
        return self._starts[self._index] - time.monotonic()

    def start(self, interval: float) -> bool:
        """Take the next start if it is due; the one after it is due ``interval`` seconds later."""
        with self._lock:
            now = time.monotonic()
            if self._starts[self._index] > now:
                return False
            self._starts[self._index] = now + interval
            return True

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._starts[self._index] = max(self._starts[self._index], time.monotonic() + seconds)


class _Slot:
    """One request to a host as an async context manager (one by contextlib costs more than the rest)."""

    __slots__ = ("_limiter", "_max_wait", "_slots")

    def __init__(self, limiter: HostLimiter, max_wait: float, slots: Slots) -> None:
        self._limiter, self._max_wait, self._slots = limiter, max_wait, slots

    async def __aenter__(self) -> None:
        await self._limiter.acquire(self._max_wait, self._slots)

    async def __aexit__(self, *_: object) -> None:
        self._limiter.release(self._slots)


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
    """This process's share of the limits: one part in ``processes`` of the requests at once."""

    processes: int = 1
    starts: Starts | None = None
    lock: AbstractContextManager[Any] = field(default_factory=threading.Lock)
    make: MakeLimiter | None = None

    def clock(self, host: str) -> _Clock | None:
        if self.starts is None:
            return None
        return _Clock(self.starts, zlib.crc32(host.encode()) % len(self.starts), self.lock)


_SHARE = _Share()
_LIMITERS: dict[tuple[str, int, float | None], HostLimiter] = {}
_LIMITERS_LOCK = threading.Lock()


def share_between(processes: int, starts: Starts, lock: AbstractContextManager[Any]) -> None:
    """From now on use one part in ``processes`` of all limits; all processes get the same ``starts`` and ``lock``."""
    global _SHARE
    _SHARE = _Share(processes=processes, starts=starts, lock=lock)


def share_through(make: MakeLimiter) -> None:
    """From now on ``make`` gives a host's limiter, for each event loop one of its own: it shares the limits itself."""
    global _SHARE
    _SHARE = _Share(make=make)


def per_process(limit: int) -> int:
    """This process's share of a limit on all processes together; at least 1."""
    return max(1, limit // _SHARE.processes)


def host_limiter(host: str, concurrency: int, rate: float | None, timeout: float) -> Limiter:
    """The limiter of a host (name and port), each of whose requests is over after ``timeout`` seconds."""
    if _SHARE.make:
        return _SHARE.make(host, concurrency, rate, timeout)
    with _LIMITERS_LOCK:
        if (limiter := _LIMITERS.get((host, concurrency, rate))) is None:
            limiter = HostLimiter(per_process(concurrency), rate, _SHARE.clock(host))
            _LIMITERS[host, concurrency, rate] = limiter
        return limiter
