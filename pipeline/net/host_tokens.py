"""Limits per host that hold for workers on several machines: one place hands out a token for each request.

``HostTokens`` is what a worker asks, ``TokenLedger`` what answers; between them lies whatever carries calls from one
machine to another. Times are durations, since no two machines share a clock. A token is for one request at once and for
one start; it ends by itself some seconds after the request must be over, so that a worker that is lost keeps none. The
price is one call to that place before each request (about a millisecond), and one after it that nobody waits for.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from surd.pipeline.net.rate_limit import Slots
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason

LATE = 0.02  # seconds between a token and its request, beyond which another start is taken
SPARE = 30.0  # seconds that a token outlasts its request's time limit: for a slot, and for a machine that is busy
_LOOK = 1.0  # seconds until a waiting request sees a pause that was set meanwhile
_SWEEP = 10_000  # tokens after which hosts that nobody asks for any more are forgotten


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """Requests at once, seconds between two starts, and seconds for which a token is good."""

    concurrency: int
    interval: float
    hold: float


@dataclass(frozen=True)
class Paused:
    """There is no token: the host wants no request for so many seconds, more than the one who asks would wait."""

    seconds: float


class HostTokens(Protocol):
    """Where a worker gets the tokens of all hosts. ``host`` is a name and a port."""

    async def take(self, host: str, limits: HostLimits, max_wait: float) -> int | Paused:
        """A token, once the host may have another request."""

    async def start_again(self, host: str, token: int, limits: HostLimits) -> float | None:
        """Another start for a token that was not used at once, in so many seconds.

        None if the token has ended, or that start is more than a second away: the slot is needed for other hosts.
        """

    def give_back(self, host: str, token: int) -> None:
        """The request is over. Does not wait."""

    def pause(self, host: str, seconds: float) -> None:
        """Start nothing for so many seconds: a Retry-After. Does not wait."""


class ClusterLimiter:
    """The limits of one host for one event loop, kept by tokens: as ``rate_limit.HostLimiter`` for one machine.

    One request at a time asks for a token, so that a worker has one call under way for each host, not one for each
    image in its list.
    """

    def __init__(self, tokens: HostTokens, host: str, limits: HostLimits) -> None:
        self._tokens, self._host, self._limits = tokens, host, limits
        self._asking = asyncio.Lock()

    def request(self, max_wait: float, slots: Slots) -> _Request:
        """One request to this host: an async context manager. Raises Rejected for a pause over ``max_wait`` seconds."""
        return _Request(self, max_wait, slots)

    async def acquire(self, max_wait: float, slots: Slots) -> int:
        """Wait until a request may start; the token of it."""
        while True:
            async with self._asking:
                token = await self._tokens.take(self._host, self._limits, max_wait)
                if isinstance(token, Paused):
                    detail = f"the host wants no request for {token.seconds:.0f} more seconds"
                    raise Rejected(Reason.HTTP_ERROR, detail, transient=True)
                try:
                    if await self._take_slot(token, slots):
                        return token
                except BaseException:
                    self._tokens.give_back(self._host, token)
                    raise
            self._tokens.give_back(self._host, token)

    async def _take_slot(self, token: int, slots: Slots) -> bool:
        """Take one of the slots that all hosts share; False, without one, where the token is of no more use then."""
        asked = time.monotonic()
        await slots.acquire()
        if time.monotonic() - asked <= LATE:
            return True
        try:
            wait = await self._tokens.start_again(self._host, token, self._limits)
            if wait is not None:
                await asyncio.sleep(wait)
                return True
        except BaseException:
            slots.release()
            raise
        slots.release()
        return False

    def release(self, token: int, slots: Slots) -> None:
        """The request is over."""
        slots.release()
        self._tokens.give_back(self._host, token)

    def pause(self, seconds: float) -> None:
        """Start nothing for so many seconds: a Retry-After."""
        self._tokens.pause(self._host, seconds)

    def slow_down(self, interval: float) -> None:
        """Keep at least so many seconds between starts: a Crawl-delay."""
        if interval > self._limits.interval:
            self._limits = replace(self._limits, interval=interval)


class _Request:
    """One request to a host as an async context manager."""

    __slots__ = ("_limiter", "_max_wait", "_slots", "_token")

    def __init__(self, limiter: ClusterLimiter, max_wait: float, slots: Slots) -> None:
        self._limiter, self._max_wait, self._slots, self._token = limiter, max_wait, slots, 0

    async def __aenter__(self) -> None:
        self._token = await self._limiter.acquire(self._max_wait, self._slots)

    async def __aexit__(self, *_: object) -> None:
        self._limiter.release(self._token, self._slots)


@dataclass
class _Host:
    """``held``: when each token ends; ``last``: the one that started last, if nothing has happened since.

    Those and ``next_start`` are in seconds of this process's monotonic clock.
    """

    next_start: float = 0.0
    last: int = 0
    held: dict[int, float] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, token: int, at: float, limits: HostLimits) -> None:
        self.held[token] = at + limits.hold
        self.next_start, self.last = at + limits.interval, token

    def idle(self, now: float) -> bool:
        return not self.turn.locked() and self.next_start <= now and all(end <= now for end in self.held.values())


class TokenLedger:
    """What answers ``HostTokens``, in one event loop: who has a token of which host.

    First come, first served, host by host. All of it is coroutines, as what answers calls from elsewhere runs them.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        # Not from 1: a token of a ledger that is gone, given back to the one after it, must be nobody's.
        self._numbers = itertools.count(secrets.randbits(48))

    async def take(self, host: str, limits: HostLimits, max_wait: float) -> int | Paused:
        """As of HostTokens."""
        entry = self._hosts.setdefault(host, _Host())
        async with entry.turn:
            while True:
                now = time.monotonic()
                if (wait := entry.next_start - now) > max_wait:
                    return Paused(wait)
                if wait > 0:
                    await asyncio.sleep(min(wait, _LOOK))
                elif len(entry.held) >= limits.concurrency and not _drop_ended(entry, now):
                    await _until_freed(entry, now)
                elif len(entry.held) < limits.concurrency:
                    break
            number = next(self._numbers)
            entry.start(number, now, limits)
        if number % _SWEEP == 0:
            self._hosts = {name: one for name, one in self._hosts.items() if not one.idle(now)}
        return number

    async def start_again(self, host: str, token: int, limits: HostLimits) -> float | None:
        """As of HostTokens. Where nobody has started since, the token's own start is moved to now."""
        entry, now = self._hosts.get(host), time.monotonic()
        if entry is None or entry.held.get(token, 0.0) <= now:
            return None
        start = now if entry.last == token else max(entry.next_start, now)
        if start - now > _LOOK:
            return None
        entry.start(token, start, limits)
        return start - now

    async def give_back(self, host: str, token: int) -> None:
        """As of HostTokens; a token that has ended may be given back too."""
        if (entry := self._hosts.get(host)) and entry.held.pop(token, None):
            entry.freed.set()

    async def pause(self, host: str, seconds: float) -> None:
        """As of HostTokens."""
        entry = self._hosts.setdefault(host, _Host())
        entry.next_start, entry.last = max(entry.next_start, time.monotonic() + seconds), 0


def _drop_ended(entry: _Host, now: float) -> bool:
    """Forget tokens that have ended; whether there were any."""
    ended = [token for token, end in entry.held.items() if end <= now]
    for token in ended:
        del entry.held[token]
    return bool(ended)


async def _until_freed(entry: _Host, now: float) -> None:
    """Wait until a token is given back, or ends."""
    entry.freed.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(entry.freed.wait(), min(entry.held.values()) - now)
