"""fetch reaches public addresses and what the user named, and nothing else, whatever a URL or a redirect says."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.net.address_guard import why_forbidden
from surd.schemas import Reason, SurdError, load_config
from tests.pipeline.fetching import from_server, picture, reasons

pytest_plugins = ["tests.pipeline.served"]

_watched: list[list[tuple]] = []


def _watch(event: str, arguments: tuple) -> None:
    if event == "socket.connect" and _watched and isinstance(arguments[1], tuple):
        _watched[-1].append(arguments[1][:2])


sys.addaudithook(_watch)  # sees every connect of this process, whoever makes it


@contextmanager
def connections() -> Iterator[list[tuple]]:
    """Every (host, port) that this process tries to connect to."""
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


@pytest.fixture
def secret():
    """A service of this machine that no URL of a stranger may reach, on IPv4."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):  # nobody ever knocked
            listener.accept()


SPELLINGS = [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://localhost.:{port}/", "http://127.1:{port}/",
    "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.1:{port}/",
    "http://017700000001:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/", "http://[::1]:{port}/",
    "http://[::]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/", "http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/",
    "http://good.example@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@good.example/", "//127.0.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/", "http://168.63.129.16/",
    "http://100.100.100.200/", "http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://224.0.0.1/",
    "http://240.0.0.1/", "http://255.255.255.255/", "http://[fe80::1]/", "http://[ff02::1]/", "http://[fec0::1]/",
    "file:///etc/passwd", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/", "data:image/png;base64,AA",
]  # fmt: skip
NO_URLS = ["http://0177.0.0.1:{port}/", "http://127.0.0.1:{port}:80/", "http://[::1:{port}"]


def test_no_redirect_leads_to_a_forbidden_address_however_it_is_written(tmp_path, serve, secret):
    port = secret.getsockname()[1]
    server = serve(lambda request: request.send(302, Location=SPELLINGS[int(request.path[1:])].format(port=port)))
    with connections() as made:
        rows = from_server(tmp_path, server, [f"/{number}" for number in range(len(SPELLINGS))], retries=0)
    assert {SPELLINGS[int(path[1:])]: reason for path, reason in reasons(rows).items()} == dict.fromkeys(
        SPELLINGS, Reason.FORBIDDEN_ADDRESS
    )
    assert set(made) == {("127.0.0.1", server.server_port)}


def test_no_record_leads_there_either(tmp_path, serve, secret):
    port = secret.getsockname()[1]
    urls = [url.format(port=port) for url in SPELLINGS if url.startswith("http")]
    server = serve(lambda request: request.send(404))
    with connections() as made:
        rows = from_server(tmp_path, server, urls, retries=0)
    assert set(reasons(rows).values()) == {Reason.FORBIDDEN_ADDRESS}
    assert made == []
    assert "fetch.allow_hosts" in rows[urls[0]].detail


def test_a_redirect_that_is_no_url_fails_for_good(tmp_path, serve, secret):
    port = secret.getsockname()[1]
    server = serve(lambda request: request.send(302, Location=NO_URLS[int(request.path[1:])].format(port=port)))
    with connections() as made:
        rows = from_server(tmp_path, server, [f"/{number}" for number in range(len(NO_URLS))], retries=0)
    assert set(reasons(rows).values()) == {Reason.FETCH_FAILED} and not any(row.transient for row in rows.values())
    assert set(made) == {("127.0.0.1", server.server_port)}


def test_a_redirect_chain_is_checked_at_every_hop_and_its_end_is_a_reason(tmp_path, serve, secret):
    port = secret.getsockname()[1]
    hops = {"/a": "/b", "/b": "/c", "/c": f"http://127.0.0.1:{port}/", "/x": "/y", "/y": "/x", "/fine": "/z#part"}

    def answer(request):
        number = int(request.path[2:]) if request.path.startswith("/n") else None
        if request.path == "/z":
            request.send(200, picture(), "image/png")
        else:
            request.send(302, Location=hops[request.path] if number is None else f"/n{number + 1}")

    rows = from_server(tmp_path, serve(answer), ["/a", "/x", "/n0", "/fine"])
    assert reasons(rows) == {
        "/a": Reason.FORBIDDEN_ADDRESS,
        "/x": Reason.TOO_MANY_REDIRECTS,
        "/n0": Reason.TOO_MANY_REDIRECTS,
        "/fine": None,
    }


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost"])
def test_the_users_own_hosts_are_reached_by_name_address_or_network(tmp_path, serve, allowed):
    other = serve(lambda request: request.send(404 if "robots" in request.path else 200, picture(), "image/png"))
    host = "localhost" if allowed == "localhost" else "127.0.0.1"
    server = serve(lambda request: request.send(302, Location=f"http://{host}:{other.server_port}/"))
    assert reasons(from_server(tmp_path, server, ["/"], allow_hosts=[allowed])) == {"/": None}


class Names:
    """The world's name service: answers of a name in their order, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> None:
        self.asked = 0
        real = socket.getaddrinfo

        def getaddrinfo(host, port, *rest, **options):
            if host not in answers:
                return real(host, port, *rest, **options)
            found = answers[host][min(self.asked, len(answers[host]) - 1)].split()
            self.asked += 1
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_connection_goes_to_the_address_that_was_checked_when_the_name_changes_its_mind(
    tmp_path, serve, monkeypatch
):
    server = serve(lambda request: request.send(200, picture(), "image/png"))
    url = f"http://rebind:{server.server_port}/"
    names = Names(monkeypatch, rebind=["127.0.0.1", "127.0.0.99"])
    with connections() as made:
        rows = from_server(
            tmp_path, server, [url], allow_hosts=["127.0.0.1"], respect_robots=False, respect_opt_outs=False
        )
    assert rows[url].kept and names.asked == 1 and made == [("127.0.0.1", server.server_port)]
    assert server.headers_seen[0]["Host"] == f"rebind:{server.server_port}"


def test_a_name_with_one_forbidden_address_among_good_ones_is_refused(tmp_path, serve, monkeypatch):
    server = serve(lambda request: request.send(200, picture(), "image/png"))
    url = f"http://two:{server.server_port}/"
    Names(monkeypatch, two=["127.0.0.1 127.0.0.99"])
    with connections() as made:
        rows = from_server(tmp_path, server, [url], allow_hosts=["127.0.0.1"])
    assert rows[url].reason is Reason.FORBIDDEN_ADDRESS and "127.0.0.99" in rows[url].detail and made == []


def test_a_source_under_a_name_is_not_trusted_to_point_into_the_users_network(tmp_path, serve, monkeypatch):
    server = serve(lambda request: request.send(200, picture(), "image/png"))
    monkeypatch.setattr(type(server), "url", f"http://gallery.example:{server.server_port}")
    Names(monkeypatch, **{"gallery.example": ["127.0.0.1"]})
    with connections() as made:
        assert reasons(from_server(tmp_path, server, ["/"])) == {"/": Reason.FORBIDDEN_ADDRESS}
    assert made == []


def test_behind_a_proxy_the_name_is_checked_and_the_proxy_connects(tmp_path, serve, monkeypatch, secret):
    def answer(request):
        request.send(404 if "robots" in request.path else 200, picture(), "image/png")

    proxy = serve(answer)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    urls = ["http://only-the-proxy-knows.invalid/a.png", f"http://localhost:{secret.getsockname()[1]}/", "http://10.1/"]
    with connections() as made:
        rows = from_server(tmp_path, serve(answer), urls)
    assert [*reasons(rows).values()] == [None, Reason.FORBIDDEN_ADDRESS, Reason.FORBIDDEN_ADDRESS]
    assert proxy.requests[-1] == urls[0] and {port for _, port in made} <= {proxy.server_port, 53}


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_the_same_inside_every_ipv6_form(number):
    plain = ipaddress.IPv4Address(number)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    forbidden = why_forbidden(plain) is not None
    assert all((why_forbidden(form) is not None) >= forbidden for form in forms)
    assert forbidden >= (not plain.is_global)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_not_forbidden(address):
    assert why_forbidden(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize("entry", ["http://example.org", "a b", "", "*"])
def test_an_entry_of_the_allow_list_that_is_no_host_is_refused_in_one_sentence(entry):
    with pytest.raises(SurdError, match=r"fetch\.allow_hosts.*not a host name, address or network"):
        load_config({}, {"fetch.allow_hosts": [entry]})
