"""Fixtures: a real HTTP server that answers as a test says, retries without pauses, and the real samples."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples"


class Request(BaseHTTPRequestHandler):
    """One request, with a short way to answer it. ``body``: what was posted."""

    body = b""

    def send(self, status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        length = headers.pop("Content_Length", str(len(body)))
        for name, value in {"Content-Type": content_type, "Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """``requests`` are the paths asked for, in order; ``closing`` is set when the test is over."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], None], host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.closing = threading.Event()
        server = self

        class Handler(Request):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.headers_seen.append(dict(self.headers))
                answer(self)

            def do_POST(self) -> None:
                self.body = self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests are about."""


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Request], None]], Server]]:
    """``serve(answer)`` starts a server on a free port."""
    servers: list[Server] = []

    def start(answer: Callable[[Request], None]) -> Server:
        server = Server(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Retries happen, without the pauses between them."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
def samples() -> Path:
    """Real images and API answers, kept outside the repository."""
    if not SAMPLES.is_dir():
        pytest.skip(f"real samples are not at {SAMPLES}")
    return SAMPLES
