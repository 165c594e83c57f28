"""The client of a source's API goes where it may, asks where it may, and ends."""

from __future__ import annotations

import json
import time

import pytest

from surd.pipeline.net import api_client
from surd.pipeline.sources import open_source
from surd.schemas import BuildConfig, SurdError
from tests.pipeline.stages.test_fetch_safety import Names, connections

pytest_plugins = ["tests.pipeline.served"]

EMPTY = json.dumps({"items": [], "metadata": {}}).encode()


def ask(server, monkeypatch, *, source="gallery", allow=("127.0.0.1",), **collect):
    """One page of an API under the name api.example, which is this machine."""
    Names(monkeypatch, **{"api.example": ["127.0.0.1"]})
    url = f"http://api.example:{server.server_port}/api/v1"
    named = {"gallery": f"gallery:{url}/images", "civitai": "civitai", "lexica": "lexica:cats"}[source]
    config = BuildConfig(
        source=named, civitai={"url": url}, lexica={"url": url, "endless": True}, collect=collect,
        fetch={"allow_hosts": allow},
    )  # fmt: skip
    with open_source(config) as opened:
        return [opened.page(None), opened.page("2")]


def test_an_api_under_a_name_that_leads_into_the_users_network_is_refused_unless_it_is_allowed(serve, monkeypatch):
    server = serve(lambda request: request.send(404 if "robots" in request.path else 200, EMPTY))
    with connections() as made, pytest.raises(SurdError, match=r"127\.0\.0\.1: loopback; fetch\.allow_hosts"):
        ask(server, monkeypatch, allow=())
    assert made == [] and server.requests == []
    assert ask(server, monkeypatch)[0].records == []


@pytest.mark.parametrize(
    "inward", ["http://127.0.0.2:9/", "http://localhost:9/", "http://[::1]:9/", "http://10.0.0.1/"]
)
def test_no_redirect_of_an_api_leads_inward(serve, monkeypatch, inward):
    server = serve(lambda request: request.send(302, Location=inward))
    config = BuildConfig(source=f"gallery:{server.url}/api")
    with connections() as made, open_source(config) as source, pytest.raises(SurdError, match=r"fetch\.allow_hosts"):
        source.page(None)
    assert set(made) == {("127.0.0.1", server.server_port)}


def robots(text: str):
    return lambda request: request.send(200, text.encode() if request.path == "/robots.txt" else EMPTY)


def test_an_api_that_robots_txt_disallows_is_not_asked_unless_the_config_says_so(serve, monkeypatch):
    server = serve(robots("User-agent: *\nDisallow: /api/"))
    with pytest.raises(
        SurdError, match=r"robots\.txt disallows /api/v1/images; .*set collect\.respect_robots to false"
    ):
        ask(server, monkeypatch)
    assert server.requests == ["/robots.txt"]
    ask(server, monkeypatch, respect_robots=False)
    assert "/robots.txt" not in server.requests[1:]


def test_an_api_documented_for_programs_is_asked_and_a_sites_own_endpoint_is_not(serve, monkeypatch):
    server = serve(robots("User-agent: *\nDisallow: /api/"))
    ask(server, monkeypatch, source="civitai")
    assert "/robots.txt" not in server.requests
    with pytest.raises(SurdError, match="is closed to programs"):
        ask(server, monkeypatch, source="lexica")


def test_robots_txt_is_read_once_and_its_delay_kept(serve, monkeypatch):
    server = serve(robots("User-agent: *\nCrawl-delay: 0.3"))
    started = time.monotonic()
    ask(server, monkeypatch)
    assert time.monotonic() - started >= 0.3 and server.requests.count("/robots.txt") == 1


def test_a_robots_txt_that_cannot_be_read_now_is_one_sentence(serve, monkeypatch, no_waiting):
    server = serve(lambda request: request.send(503))
    with pytest.raises(SurdError, match=r"cannot be requested now \(robots.txt cannot be read: HTTP 503.*try later"):
        ask(server, monkeypatch, retries=1)
    assert server.requests == ["/robots.txt"] * 2


def test_an_answer_without_an_end_is_one_sentence_and_bounded(serve, monkeypatch, no_waiting):
    def endless(request):
        request.send_response(200)
        request.end_headers()
        while not server.closing.is_set():
            request.wfile.write(b"[" * 10_000)

    server = serve(endless)
    monkeypatch.setattr(api_client, "MAX_RESPONSE", 100_000)
    config = BuildConfig(source=f"gallery:{server.url}/api", collect={"retries": 0})
    with open_source(config) as source, pytest.raises(SurdError, match="more than 100000 bytes"):
        source.page(None)


def test_an_answer_that_drips_is_given_up_in_time(serve):
    def dripping(request):
        request.send_response(200)
        request.end_headers()
        while not server.closing.wait(0.05):
            request.wfile.write(b" ")

    server = serve(dripping)
    config = BuildConfig(source=f"gallery:{server.url}/api", collect={"retries": 0, "timeout": 0.5})
    with open_source(config) as source, pytest.raises(SurdError, match="no answer in time"):
        source.page(None)


def test_behind_a_proxy_the_proxy_connects_and_names_of_this_network_stay_unasked(serve, monkeypatch):
    proxy = serve(lambda request: request.send(404 if "robots" in request.path else 200, EMPTY))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    with open_source(BuildConfig(source="gallery:http://only-the-proxy-knows.invalid/api")) as source:
        assert source.page(None).records == []
    assert [path.partition("?")[0] for path in proxy.requests] == [
        "http://only-the-proxy-knows.invalid/robots.txt",
        "http://only-the-proxy-knows.invalid/api",
    ]
    with open_source(BuildConfig(source="gallery:http://printer.localhost/api")) as source, pytest.raises(SurdError):
        source.page(None)
    assert len(proxy.requests) == 2
