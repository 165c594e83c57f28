"""fetch asks no host for more than it bears or allows."""

from __future__ import annotations

import time

import httpx
import pytest

from pipeline.opt_outs import opt_out
from schemas import Reason
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
    assert sorted(other.requests) == ["/b", "/c", "/robots.txt"]
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


@pytest.mark.parametrize(
    ("name", "value", "means"),
    [
        ("X-Robots-Tag", "noimageai", True), ("X-Robots-Tag", "surd: noai", True), ("X-Robots-Tag", "NoAI", True),
        ("X-Robots-Tag", "otherbot: noai", False), ("X-Robots-Tag", "noindex", False),
        ("X-Robots-Tag", "max-snippet: 3, noai", True), ("TDM-Reservation", "1", True), ("TDM-Reservation", "0", False),
    ],
)  # fmt: skip
def test_opt_out_headers_mean_what_their_makers_say(name, value, means):
    assert (opt_out(httpx.Headers({name: value})) is not None) == means


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
