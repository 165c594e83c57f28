"""What curl and urllib read of a server's head costs no picture, and what none reads is asked for once."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from surd.pipeline.net.downloader import Download, Downloader
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig

BODY = b"x" * 50
LENGTH = b"Content-Length: 50\r\n"
HEADS = {
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH,
    "line feeds": b"HTTP/1.1 200 OK\nContent-Length: 50\n",
    "blank before the colon": b"HTTP/1.1 200 OK\r\nContent-Type : image/png\r\n" + LENGTH,
    "no colon": b"HTTP/1.1 200 OK\r\ngarbage\r\n" + LENGTH,
    "no name": b"HTTP/1.1 200 OK\r\n: v\r\n" + LENGTH,
    "blank in a name": b"HTTP/1.1 200 OK\r\nX Foo: v\r\n" + LENGTH,
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + LENGTH,
    "not ASCII": b"HTTP/1.1 200 \xe9\r\nX-\xc3\xa9: \xe9\r\n" + LENGTH,
    "two lengths": b"HTTP/1.1 200 OK\r\n" + LENGTH + LENGTH,
    "no number as length": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n",
    "empty length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n" + LENGTH,
    "two blanks": b"HTTP/1.1  200 OK\r\n" + LENGTH,
    "long": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 30_000 + b"\r\n" + LENGTH,
    "gzip that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + LENGTH,
}


class OneAnswer:
    """A server that sends the same bytes to whoever connects. ``count``: connections."""

    def __init__(self, answer: bytes) -> None:
        self.count, self._answer = 0, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.count += 1
            with connection:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(self._answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def answering() -> Iterator[type[OneAnswer]]:
    servers: list[OneAnswer] = []

    def start(answer: bytes) -> OneAnswer:
        servers.append(OneAnswer(answer))
        return servers[-1]

    yield start  # type: ignore[misc]
    for server in servers:
        server.close()


def download(url: str, times: int = 1, **settings) -> Download:
    async def run() -> Download:
        config = FetchConfig(allow_hosts=["127.0.0.1"], timeout=5, respect_robots=False, **settings)
        downloader = Downloader(config, url)
        try:
            for _ in range(times - 1):
                await downloader.get(url)
            return await downloader.get(url)
        finally:
            await downloader.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_curl_or_urllib_reads_costs_no_picture(answering, head):
    server = answering(HEADS[head] + b"\r\n" + BODY)
    assert download(server.url, 3).data == BODY
    assert server.count <= 4, "once a server is known to be odd, each picture is asked for once"


def test_an_opt_out_behind_a_line_that_is_no_header_counts(answering):
    server = answering(b"HTTP/1.1 200 OK\r\ngarbage\r\nX-Robots-Tag: noai\r\n" + LENGTH + b"\r\n" + BODY)
    with pytest.raises(Rejected) as rejected:
        download(server.url)
    assert rejected.value.reason is Reason.OPTED_OUT


@pytest.mark.parametrize("answer", [b"\x00\x01" * 30, b"HTTP/9 200\r\n\r\n", b"220 mail ready\r\n"])
def test_what_is_no_http_is_asked_for_once_by_each_client_and_never_again(answering, answer):
    server = answering(answer)
    with pytest.raises(Rejected) as rejected:
        download(server.url)
    assert rejected.value.reason is Reason.FETCH_FAILED and not rejected.value.transient
    assert server.count == 2


def test_a_body_of_an_odd_head_is_no_longer_than_allowed(answering):
    server = answering(b"HTTP/1.1  200 OK\r\n\r\n" + BODY * 1000)
    with pytest.raises(Rejected) as rejected:
        download(server.url, max_bytes=1000)
    assert rejected.value.reason is Reason.TOO_LARGE
