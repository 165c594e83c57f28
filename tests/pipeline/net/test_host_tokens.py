"""Tokens of hosts: limits hold for all who ask, and a token that nobody gives back ends by itself."""

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from surd.pipeline.net import host_tokens, rate_limit
from surd.pipeline.net.host_tokens import ClusterLimiter, HostLimits, Paused, TokenLedger
from surd.pipeline.net.rate_limit import Slots
from surd.pipeline.rejection import Rejected

LIMITS = HostLimits(concurrency=2, interval=0.0, hold=60.0)


class Here:
    """The tokens of a ledger in this process."""

    def __init__(self, ledger=None):
        self.ledger = ledger or TokenLedger()
        self.take, self.start_again = self.ledger.take, self.ledger.start_again

    def give_back(self, host, token):
        self.given_back = asyncio.ensure_future(self.ledger.give_back(host, token))

    def pause(self, host, seconds):
        self.paused = asyncio.ensure_future(self.ledger.pause(host, seconds))


@pytest.fixture
def granted(monkeypatch):
    """The moments that ledgers give as starts: when a test sees them depends on how busy the machine is."""
    moments, start = [], host_tokens._Host.start

    def noted(self, token, at, limits):
        moments.append(at)
        start(self, token, at, limits)

    monkeypatch.setattr(host_tokens._Host, "start", noted)
    return moments


async def refused(ledger, limits=LIMITS, host="a:80"):
    """Whether a token is still out of reach after a moment."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ledger.take(host, limits, 60), 0.1)
    return True


def test_a_host_has_as_many_tokens_as_requests_at_once_and_hosts_do_not_share_them():
    async def run():
        ledger = TokenLedger()
        first = await ledger.take("a:80", LIMITS, 60)
        assert first != await ledger.take("a:80", LIMITS, 60) and await refused(ledger)
        await ledger.take("b:80", LIMITS, 60)
        waiting = asyncio.ensure_future(ledger.take("a:80", LIMITS, 60))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await ledger.give_back("a:80", first)
        await asyncio.wait_for(waiting, 10)
        await ledger.give_back("a:80", first)  # once more, as a worker that is late does
        assert await refused(ledger)

    asyncio.run(run())


def test_the_token_of_a_lost_worker_ends_by_itself():
    async def run():
        ledger, limits = TokenLedger(), HostLimits(concurrency=1, interval=0.0, hold=0.3)
        started = time.monotonic()
        lost = await ledger.take("a:80", limits, 60)
        await ledger.take("a:80", limits, 60)
        assert time.monotonic() - started >= 0.29
        assert await ledger.start_again("a:80", lost, limits) is None

    asyncio.run(run())


def test_starts_are_apart_and_a_pause_holds_for_all_who_ask(monkeypatch, granted):
    monkeypatch.setattr(host_tokens, "_LOOK", 0.05)

    async def run():
        ledger, limits = TokenLedger(), HostLimits(concurrency=100, interval=0.05, hold=60)
        await asyncio.gather(*(ledger.take("a:80", limits, 60) for _ in range(6)))
        assert len(granted) == 6 and all(later - earlier >= 0.049 for earlier, later in pairwise(granted))
        slow = asyncio.ensure_future(ledger.take("a:80", replace(limits, interval=60.0), 60))
        await slow
        waiting = asyncio.ensure_future(ledger.take("a:80", limits, 100))
        await asyncio.sleep(0.05)
        await ledger.pause("a:80", 3600)
        paused = await asyncio.wait_for(waiting, 10)
        assert isinstance(paused, Paused) and 3500 < paused.seconds <= 3600
        limiter = ClusterLimiter(Here(ledger), "a:80", limits)
        with pytest.raises(Rejected, match=r"wants no request for 3[56]"):
            await limiter.acquire(60, Slots(1))

    asyncio.run(run())


def test_a_request_that_had_to_wait_for_a_slot_takes_another_start(granted):
    async def run():
        slots, limits = Slots(2), HostLimits(concurrency=8, interval=0.05, hold=60)
        tokens = Here()
        limiters = [ClusterLimiter(tokens, "a:80", limits) for _ in range(2)]  # of two workers

        async def one(limiter):
            async with limiter.request(60, slots):
                pass

        async with slots.request(), slots.request():
            tasks = [asyncio.create_task(one(limiter)) for limiter in limiters for _ in range(3)]
            await asyncio.sleep(0.3)
            before = len(granted)
        await asyncio.gather(*tasks)
        assert before == 2, "of each worker one has a token, and waits for a slot"
        assert len(granted) >= 8, "both take another start"
        assert all(later - earlier >= 0.049 for earlier, later in pairwise(granted[before:]))
        await tokens.given_back
        assert not tokens.ledger._hosts["a:80"].held

    asyncio.run(run())


def test_a_slow_host_gets_its_request_however_late_a_slot_is_free_but_not_during_a_pause():
    async def run():
        ledger, limits = TokenLedger(), HostLimits(concurrency=8, interval=10.0, hold=60)
        late = await ledger.take("a:80", limits, 60)
        await asyncio.sleep(0.2)
        assert await ledger.start_again("a:80", late, limits) == 0.0
        assert isinstance(paused := await ledger.take("a:80", limits, 5), Paused) and paused.seconds > 9.9
        await ledger.pause("a:80", 0.5)
        assert await ledger.start_again("a:80", late, limits) is None

    asyncio.run(run())


def test_a_request_that_is_cancelled_keeps_neither_slot_nor_token():
    async def run():
        slots, tokens = Slots(1), Here()
        limiter = ClusterLimiter(tokens, "a:80", LIMITS)
        async with slots.request():
            waiting = asyncio.create_task(limiter.acquire(60, slots))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await tokens.given_back
        assert not tokens.ledger._hosts["a:80"].held
        await asyncio.wait_for(limiter.acquire(60, slots), 10)

    asyncio.run(run())


def test_hosts_that_nobody_asks_for_any_more_are_forgotten(monkeypatch):
    monkeypatch.setattr(host_tokens, "_SWEEP", 10)

    async def run():
        ledger = TokenLedger()
        for number in range(100):
            await ledger.give_back(str(number), await ledger.take(str(number), LIMITS, 60))
        assert len(ledger._hosts) <= 11

    asyncio.run(run())


def test_a_process_that_shares_through_tokens_makes_no_limiter_of_its_own(monkeypatch):
    monkeypatch.setattr(rate_limit, "_SHARE", rate_limit._SHARE)  # and back again
    made = []
    rate_limit.share_through(lambda *limits: made.append(limits))
    rate_limit.host_limiter("a:80", 8, 10.0, 30.0)
    assert made == [("a:80", 8, 10.0, 30.0)]
