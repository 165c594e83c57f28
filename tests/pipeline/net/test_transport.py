"""Connections: kept where they are of use, not in any number; and by the client that fits what a server speaks."""

import asyncio
import ssl
from typing import NamedTuple

import httpx
import pytest
import trustme

from surd.pipeline.net.address_guard import AddressGuard, ForbiddenAddress
from surd.pipeline.net.request_url import RequestUrl
from surd.pipeline.net.transport import GuardedTransport, Timeouts

pytest_plugins = ["tests.pipeline.served"]


class Heard(NamedTuple):
    """An answer read to its end."""

    body: bytes
    http_version: str
    by: str


def ask(urls, most=None, allow=("127.0.0.1", "localhost")) -> list[Heard]:
    """The answers to some requests, one after the other."""

    async def run():
        limits = httpx.Limits(max_keepalive_connections=most)
        transport = GuardedTransport(AddressGuard(allow), limits, Timeouts())
        heard = []
        try:
            for url in urls:
                answer = await transport.send(RequestUrl.of(url), {})
                heard.append(Heard(await answer.read(), answer.http_version, type(answer).__name__))
                await answer.aclose()
        finally:
            await transport.aclose()
        return heard

    return asyncio.run(run())


@pytest.fixture
def keeping(serve):
    """Servers that keep their connections open."""

    def start():
        server = serve(lambda request: request.send(200, b"bytes"))
        server.RequestHandlerClass.protocol_version = "HTTP/1.1"
        return server

    return start


def test_a_connection_is_used_again(keeping):
    server = keeping()
    ports = []
    server.RequestHandlerClass.log_request = lambda request, *_: ports.append(request.client_address)
    assert [answer.body for answer in ask([server.url] * 3)] == [b"bytes"] * 3
    assert len(set(ports)) == 1


def test_with_many_hosts_no_more_connections_stay_open_than_allowed(keeping):
    servers = [keeping() for _ in range(6)]
    ask([server.url for server in servers], most=3)
    assert [server.headers_seen[0].get("Connection") for server in servers] == [None] * 3 + ["close"] * 3


def test_an_answer_that_breaks_off_is_an_error_and_is_asked_for_once(serve):
    def answer(request):
        request.send(200, b"part", Content_Length="100")
        request.hang_up()

    server = serve(answer)
    with pytest.raises(httpx.RemoteProtocolError):
        ask([server.url])
    assert len(server.requests) == 1


def test_an_address_allowed_by_one_name_is_not_allowed_by_itself(keeping):
    server = keeping()
    named = f"http://localhost:{server.server_port}/"
    with pytest.raises(ForbiddenAddress):
        ask([named, server.url], allow=("localhost",))
    assert len(server.requests) == 1


def test_a_tls_server_without_http2_is_asked_by_either_client_alike(keeping, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    server, context = keeping(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    answers = ask([f"https://localhost:{server.server_port}/"] * 3)
    assert [(answer.http_version, answer.body) for answer in answers] == [("HTTP/1.1", b"bytes")] * 3
    assert [answer.by for answer in answers] == ["_HttpxResponse", "_AiohttpResponse", "_AiohttpResponse"]
