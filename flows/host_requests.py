"""The limits of hosts over a whole Ray cluster: a named actor that hands out a token for each request.

All builds on a cluster use the one actor, so that they share a host's limits too. It ends with the build that started
it; workers of another build that is at work then start it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from surd.pipeline.net.host_tokens import SPARE, ClusterLimiter, HostLimits, Paused, TokenLedger
from surd.pipeline.net.rate_limit import share_through

ACTOR, NAMESPACE = "surd-host-requests", "surd"
_WAITING = 100_000  # calls that may wait in the actor at once: one for each host and worker

T = TypeVar("T")


@contextmanager
def host_requests() -> Iterator[None]:
    """Keep the cluster's actor while the block lasts: it lives as long as one who has started it."""
    actor = _actor()
    yield
    del actor


def with_cluster_limits(run: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run something on a worker whose requests keep to the cluster's limits of each host."""
    share_through(_limiter)
    return run(*args, **kwargs)


def _limiter(host: str, concurrency: int, rate: float | None, timeout: float) -> ClusterLimiter:
    limits = HostLimits(concurrency=concurrency, interval=1 / rate if rate else 0.0, hold=timeout + SPARE)
    return ClusterLimiter(_tokens(), host, limits)


class RayTokens:
    """``HostTokens`` of the actor; where that is gone, of a new one."""

    def __init__(self) -> None:
        self._actor = _actor()

    async def take(self, host: str, limits: HostLimits, max_wait: float) -> int | Paused:
        """As of HostTokens."""
        token: int | Paused = await self._ask("take", host, limits, max_wait)
        return token

    async def start_again(self, host: str, token: int, limits: HostLimits) -> float | None:
        """As of HostTokens."""
        wait: float | None = await self._ask("start_again", host, token, limits)
        return wait

    def give_back(self, host: str, token: int) -> None:
        """As of HostTokens."""
        self._actor.give_back.options(num_returns=0).remote(host, token)

    def pause(self, host: str, seconds: float) -> None:
        """As of HostTokens."""
        self._actor.pause.options(num_returns=0).remote(host, seconds)

    async def _ask(self, method: str, *arguments: object) -> Any:
        from ray.exceptions import RayActorError

        while True:
            actor = self._actor
            try:
                return await getattr(actor, method).remote(*arguments)
            except RayActorError:
                await asyncio.sleep(0.1)  # its name is taken for a moment longer
                if actor is self._actor:
                    self._actor = _actor()


@cache
def _tokens() -> RayTokens:
    return RayTokens()


def _actor() -> Any:
    import ray

    options = {"name": ACTOR, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0}
    return ray.remote(TokenLedger).options(**options, max_concurrency=_WAITING).remote()
