"""fetch over TLS: the connection goes to the checked address, the handshake and the certificate speak of the name."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from surd.schemas import Reason
from tests.pipeline.fetching import from_server, picture, reasons
from tests.pipeline.stages.test_fetch_safety import Names, connections

pytest_plugins = ["tests.pipeline.served"]

UNHEARD = {"allow_hosts": ["127.0.0.1"], "respect_robots": False, "respect_opt_outs": False, "per_host_rate": 1000}


@pytest.fixture
def authority(tmp_path, monkeypatch) -> trustme.CA:
    """An authority that this process trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return made


def server_context(authority: trustme.CA, name: str, asked: list[str | None]) -> ssl.SSLContext:
    """A server's side of TLS with a certificate for a name; ``asked`` are the names that clients begin with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = lambda connection, server_name, _: asked.append(server_name)
    return context


def secured(server, context: ssl.SSLContext):
    """A server of the fixture ``serve``, from now on over TLS; each handshake in the thread of its connection."""
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def images(request) -> None:
    request.send(200, picture(seed=int(request.path[1:])), "image/png")


def test_the_name_is_in_handshake_and_certificate_and_the_connection_goes_to_the_checked_address(
    tmp_path, serve, authority, monkeypatch
):
    asked: list[str | None] = []
    server = secured(serve(images), server_context(authority, "pinned.example", asked))
    Names(monkeypatch, **{"pinned.example": ["127.0.0.1"]})
    urls = [f"https://pinned.example:{server.server_port}/{number}" for number in range(4)]
    with connections() as made:
        rows = from_server(tmp_path, server, urls, **UNHEARD, concurrency=1)
    assert [*reasons(rows).values()] == [None] * 4
    assert set(made) == {("127.0.0.1", server.server_port)} and set(asked) == {"pinned.example"}
    assert {seen["Host"] for seen in server.headers_seen} == {f"pinned.example:{server.server_port}"}


def test_a_name_that_changes_its_mind_after_the_check_gains_nothing_over_tls(tmp_path, serve, authority, monkeypatch):
    server = secured(serve(images), server_context(authority, "rebind.example", []))
    Names(monkeypatch, **{"rebind.example": ["127.0.0.1", "127.0.0.99"]})
    url = f"https://rebind.example:{server.server_port}/1"
    with connections() as made:
        assert reasons(from_server(tmp_path, server, [url], **UNHEARD)) == {url: None}
    assert made == [("127.0.0.1", server.server_port)]


@pytest.mark.parametrize("certified", ["another.example", None])
def test_a_certificate_of_another_name_or_of_nobody_we_trust_is_refused(
    tmp_path, serve, authority, monkeypatch, certified
):
    issuer = authority if certified else trustme.CA()
    server = secured(serve(images), server_context(issuer, certified or "this.example", []))
    Names(monkeypatch, **{"this.example": ["127.0.0.1"]})
    url = f"https://this.example:{server.server_port}/1"
    rows = from_server(tmp_path, server, [url], **UNHEARD, retries=0)
    assert reasons(rows) == {url: Reason.FETCH_FAILED} and "certificate" in rows[url].detail.lower()
    assert server.requests == []


class Http2Server:
    """Images over HTTP/2 on one port; ``opened`` connections, and ``paths`` asked for."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.opened, self.paths = 0, []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                self.opened += 1
                threading.Thread(target=self._talk, args=(raw,), daemon=True).start()

    def _talk(self, raw: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as wire:
            assert wire.selected_alpn_protocol() == "h2"
            talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            talk.initiate_connection()
            wire.sendall(talk.data_to_send())
            while data := wire.recv(65_536):
                for event in talk.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self._answer(talk, event)
                wire.sendall(talk.data_to_send())

    def _answer(self, talk: h2.connection.H2Connection, event: h2.events.RequestReceived) -> None:
        path = dict(event.headers)[b":path"].decode()
        self.paths.append(path)
        talk.send_headers(event.stream_id, [(":status", "200"), ("content-type", "image/png")])
        talk.send_data(event.stream_id, picture(seed=int(path[1:])), end_stream=True)


@pytest.fixture
def http2(authority) -> Iterator[Http2Server]:
    context = server_context(authority, "two.example", [])
    context.set_alpn_protocols(["h2"])
    server = Http2Server(context)
    yield server
    server.close()


def test_images_come_over_http2_where_it_is_offered_many_on_one_connection(tmp_path, serve, http2, monkeypatch):
    Names(monkeypatch, **{"two.example": ["127.0.0.1"]})
    urls = [f"https://two.example:{http2.port}/{number}" for number in range(12)]
    with connections() as made:
        rows = from_server(tmp_path, serve(images), urls, **UNHEARD, per_host_concurrency=2)
    assert [*reasons(rows).values()] == [None] * 12 and len(http2.paths) == 12
    assert http2.opened <= 2 and set(made) == {("127.0.0.1", http2.port)}


class Tunnels:
    """A proxy that opens a tunnel to wherever it is asked to, which in truth is always ``port`` of this machine."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split(b"\r\n")[0].decode())
        server = socket.create_connection(("127.0.0.1", self._port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=_pour, args=(server, client), daemon=True).start()
        _pour(client, server)


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxied(serve, authority, monkeypatch) -> Iterator[tuple[Tunnels, list[str | None]]]:
    """A proxy of the environment, and the names in the handshakes that go through it."""
    asked: list[str | None] = []
    server = secured(serve(images), server_context(authority, "far.invalid", asked))
    proxy = Tunnels(server.server_port)
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "near.example")
    yield proxy, asked
    proxy.close()


def test_through_a_proxy_of_the_environment_only_the_proxy_is_contacted_and_tls_still_ends_at_the_name(
    tmp_path, serve, proxied
):
    proxy, asked = proxied
    urls = ["https://far.invalid/1", "https://10.0.0.1/2", "https://localhost/3"]
    rows = from_server(tmp_path, serve(images), urls, **UNHEARD | {"allow_hosts": []})
    assert [*reasons(rows).values()] == [None, Reason.FORBIDDEN_ADDRESS, Reason.FORBIDDEN_ADDRESS]
    assert proxy.asked == ["CONNECT far.invalid:443 HTTP/1.1"] and asked == ["far.invalid"]


def test_a_host_in_no_proxy_is_connected_to_directly_and_checked_like_any(tmp_path, serve, proxied, monkeypatch):
    proxy, _ = proxied
    Names(monkeypatch, **{"near.example": ["127.0.0.99"]})
    rows = from_server(tmp_path, serve(images), ["https://near.example/1"], **UNHEARD)
    assert [*reasons(rows).values()] == [Reason.FORBIDDEN_ADDRESS] and proxy.asked == []
