"""fetch asks no host for more than it bears or allows."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from itertools import pairwise

import pytest
from multidict import CIMultiDict

from surd.pipeline.build.folder import Build
from surd.pipeline.net.rate_limit import HostLimiter, Slots
from surd.pipeline.net.robots import _matches, opt_out
from surd.schemas import Reason
from tests.pipeline.fetching import from_server, picture, reasons

pytest_plugins = ["tests.pipeline.served"]


def test_robots_txt_is_asked_for_once_and_honoured_unless_the_config_says_otherwise(tmp_path, serve):
    def answer(request):
        robots = b"User-agent: *\nDisallow: /private\n"
        request.send(200, robots if request.path == "/robots.txt" else picture(), "image/png")

    other = serve(answer)
    urls = [f"{other.url}/{name}" for name in ("private/a", "b", "c")]
    home = serve(answer)
    rows = from_server(tmp_path, home, urls, allow_hosts=["127.0.0.1"], per_host_rate=100)
    assert [*reasons(rows).values()] == [Reason.ROBOTS_DISALLOWED, None, None]
    assert sorted(other.requests) == ["/.well-known/tdmrep.json", "/b", "/c", "/robots.txt"]
    assert other.headers_seen[0]["User-Agent"].startswith("surd/")
    rows = from_server(tmp_path, home, urls, allow_hosts=["127.0.0.1"], per_host_rate=100, respect_robots=False)
    assert [*reasons(rows).values()] == [None] * 3


def test_a_robots_txt_that_cannot_be_read_now_leaves_the_images_for_the_next_run(tmp_path, serve):
    other = serve(lambda request: request.send(500 if request.path == "/robots.txt" else 200, picture(), "image/png"))
    rows = from_server(
        tmp_path, other, [f"http://localhost:{other.server_port}/a"], allow_hosts=["localhost"], retries=0
    )
    (row,) = rows.values()
    assert row.reason is Reason.HTTP_ERROR and row.transient and other.requests == ["/robots.txt"]


def test_an_opt_out_is_honoured_and_where_it_is_not_it_is_recorded(tmp_path, serve):
    server = serve(lambda request: request.send(200, picture(), "image/png", X_Robots_Tag="noindex, noai"))
    assert reasons(from_server(tmp_path, server, ["/a"])) == {"/a": Reason.OPTED_OUT}
    row = from_server(tmp_path, server, ["/a"], respect_opt_outs=False)["/a"]
    assert row.kept and row.opt_out == "X-Robots-Tag: noindex, noai"


RULES = [
    {"location": "/free/"}, {"location": "/open/*.png$", "tdm-reservation": 0}, {"location": 7}, "no rule",
    {"location": "/", "tdm-reservation": 1},
]  # fmt: skip


def reserving(rules: object):
    """A site with a tdmrep.json; ``/said-free`` states in its header that it is free."""

    def answer(request):
        if request.path == "/.well-known/tdmrep.json":
            request.send(200, rules if isinstance(rules, bytes) else json.dumps(rules).encode())
        elif request.path == "/robots.txt":
            request.send(404)
        else:
            free = {"TDM_Reservation": "0"} if request.path == "/said-free" else {}
            request.send(200, picture(), "image/png", **free)

    return answer


def test_what_a_site_reserves_in_its_tdmrep_json_is_left_and_the_first_rule_and_the_header_count(tmp_path, serve):
    other = serve(reserving(RULES))
    urls = [f"{other.url}/{name}" for name in ("a", "free/b", "open/c.png", "open/c.png?x", "said-free")]
    options = {"allow_hosts": ["127.0.0.1"], "per_host_rate": 100}
    rows = from_server(tmp_path, other, ["/own"], **options) | from_server(
        tmp_path, serve(reserving([])), urls, **options
    )
    assert [*reasons(rows).values()] == [None, Reason.OPTED_OUT, None, None, Reason.OPTED_OUT, None]
    assert rows[urls[0]].detail == "tdmrep.json: / is reserved"
    assert other.requests.count("/.well-known/tdmrep.json") == 1
    rows = from_server(tmp_path, serve(reserving([])), urls, **options, respect_opt_outs=False)
    assert [*reasons(rows).values()] == [None] * 5


@pytest.mark.parametrize("rules", [b"<html>", b"[" * 100_000, {"location": "/", "tdm-reservation": 1}, None, [[]]])
def test_a_tdmrep_json_that_is_none_reserves_nothing(tmp_path, serve, rules):
    other = serve(reserving(rules))
    rows = from_server(tmp_path, serve(reserving([])), [f"{other.url}/a"], allow_hosts=["127.0.0.1"], per_host_rate=100)
    assert [*reasons(rows).values()] == [None]


@pytest.mark.parametrize(
    ("location", "path", "means"),
    [
        ("/", "/a", True), ("/a", "/a/b", True), ("/a$", "/a/b", False), ("/a$", "/a", True),
        ("*.png", "/a.png?x", True), ("*.png$", "/a.png.jpg", False),
        ("/a*b*c", "/a-c-b-c", True), ("/a*b*c", "/a-c-b", False), ("a", "/a", False),
        ("/*a$", "/a", True), ("/a*a$", "/a", False), ("", "/", True),
        ("*" * 50 + "a" * 20 + "$", "/" + "a" * 9999, True),
    ],
)  # fmt: skip
def test_a_location_is_matched_as_robots_txt_matches_paths(location, path, means):
    assert _matches(location, path) == means


@pytest.mark.parametrize(
    ("name", "value", "means"),
    [
        ("X-Robots-Tag", "noimageai", True), ("X-Robots-Tag", "surd: noai", True), ("X-Robots-Tag", "NoAI", True),
        ("X-Robots-Tag", "otherbot: noai", False), ("X-Robots-Tag", "noindex", False),
        ("X-Robots-Tag", "max-snippet: 3, noai", True), ("TDM-Reservation", "1", True), ("TDM-Reservation", "0", False),
    ],
)  # fmt: skip
def test_opt_out_headers_mean_what_their_makers_say(name, value, means):
    assert (opt_out(CIMultiDict({name: value})) is not None) == means


def test_no_host_sees_requests_faster_than_its_rate(tmp_path, serve):
    times = []

    def answer(request):
        times.append(time.monotonic())
        request.send(200, picture(), "image/png")

    rows = from_server(tmp_path, serve(answer), [f"/{number}" for number in range(9)], per_host_rate=20)
    assert all(row.kept for row in rows.values())
    assert times[-1] - times[0] >= 8 / 20 - 0.1


def test_a_host_that_asks_for_a_long_pause_is_left_until_the_next_run(tmp_path, serve):
    server = serve(lambda request: request.send(429, Retry_After="3600"))
    rows = from_server(tmp_path, server, ["/a", "/b", "/c"], concurrency=1, per_host_concurrency=1)
    assert set(reasons(rows).values()) == {Reason.HTTP_ERROR} and all(row.transient for row in rows.values())
    assert len(server.requests) <= 2


def test_a_slow_host_holds_up_nobody_elses_images(tmp_path, serve):
    """All images of the good host are on disk while the slow one, first in the list, has not said a word."""
    others = 60

    def slow(request):
        assert good_is_done.wait(30)
        request.send(200, picture(seed=int(request.path[1:])), "image/png")

    def good(request):
        request.send(200, picture(seed=int(request.path[1:])), "image/png")
        if len(server.requests) == others:
            good_is_done.set()

    good_is_done, server, stuck = threading.Event(), serve(good), serve(slow)
    urls = [f"{stuck.url}/{number}" for number in range(20)] + [f"/{number}" for number in range(20, 20 + others)]
    rows = from_server(
        tmp_path, server, urls, concurrency=4, per_host_concurrency=3, allow_hosts=["127.0.0.1"], per_host_rate=1000,
        respect_robots=False, respect_opt_outs=False,
    )  # fmt: skip
    assert all(row.kept for row in rows.values()) and good_is_done.is_set()
    images = [*Build(str(tmp_path / "build")).images(0, rows.values())]
    assert images == [picture(seed=number) for number in range(20 + others)]


def test_a_request_that_had_to_wait_for_a_slot_still_keeps_its_hosts_rate():
    """Starts that were due while every slot was taken do not all happen when one is free."""

    async def run() -> list[float]:
        slots, limiter, starts = Slots(1), HostLimiter(8, rate=50), []

        async def one() -> None:
            async with limiter.request(60, slots):
                starts.append(time.monotonic())

        async with slots.request():
            tasks = [asyncio.create_task(one()) for _ in range(8)]
            await asyncio.sleep(0.3)
        await asyncio.gather(*tasks)
        return starts

    starts = asyncio.run(run())
    assert all(later - earlier >= 0.019 for earlier, later in pairwise(starts)) and len(starts) == 8


def test_nothing_is_asked_for_while_as_many_bodies_wait_to_be_used():
    async def run() -> bool:
        slots, begun = Slots(2), asyncio.Event()

        async def one() -> None:
            async with slots.request():
                begun.set()

        with slots.buffer():
            with slots.buffer():
                task = asyncio.create_task(one())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                held = not begun.is_set()
            await task
        return held and begun.is_set()

    assert asyncio.run(run())
