"""A misbehaving server of several hosts, which records every request."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from surd.schemas import Reason
from tests.pipeline.fetching import picture
from tests.pipeline.served import Request, Server

#: Kind -> the reasons it may end with; empty: an image, by the second run at the latest. A body longer than its
#: Content-Length either arrives cut off, as a broken image, or is invalid HTTP: it depends on the packets.
OUTCOMES: dict[str, tuple[Reason, ...]] = {
    "good": (), "busy": (), "failing": (), "stalled": (), "longer": (), "missing": (Reason.HTTP_ERROR,),
    "endless": (Reason.TOO_LARGE,), "dripping": (Reason.FETCH_FAILED,),
    "shorter": (Reason.BROKEN_IMAGE, Reason.FETCH_FAILED), "html": (Reason.NOT_AN_IMAGE,),
    "loop": (Reason.TOO_MANY_REDIRECTS,), "inward": (Reason.FORBIDDEN_ADDRESS,),
}  # fmt: skip
#: One in twenty each of nine kinds; two of a kind take turns.
TWENTIETHS = (
    ("missing",), ("busy",), ("failing",), ("stalled",), ("endless", "dripping"), ("longer", "shorter"), ("html",),
    ("loop",), ("inward",),
)  # fmt: skip
PAUSE = 3  # seconds that a busy host asks for
INWARD = (
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "[::1]",
    "localhost",
    "[::ffff:127.0.0.1]",
    "169.254.169.254",
    "10.0.0.1",
)


def kind_of(number: int) -> str:
    """The behaviour of the address with this number: the same every twentieth, two of a kind in turn."""
    place, turn = number % 20, number // 20
    return TWENTIETHS[place][turn % len(TWENTIETHS[place])] if place < len(TWENTIETHS) else "good"


def image_of(number: int) -> bytes:
    return picture(size=(40, 30), seed=number)


@dataclass(frozen=True)
class Visit:
    """One request to a host: when, which path, and how many were in progress there, itself included."""

    at: float
    host: str
    path: str
    at_once: int


class HostileServer:
    """The planned addresses on ``hosts``, addresses of this machine, all at one port. Use it in a with block.

    ``run`` is 1 until the benchmark sets it to 2 for the second run, in which the remaining temporary faults recover.
    """

    def __init__(self, hosts: list[str], inward_port: int) -> None:
        self.run = 1
        self.visits: list[Visit] = []
        self.pauses: list[tuple[float, str]] = []
        self._inward_port = inward_port
        self._tries: Counter[int] = Counter()
        self._in_progress: dict[str, list[socket.socket]] = {host: [] for host in hosts}
        self._lock = threading.Lock()
        self._servers = [Server(self._answer, hosts[0])]
        self.port = self._servers[0].server_port
        self._servers += [Server(self._answer, host, self.port) for host in hosts[1:]]

    def __enter__(self) -> HostileServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.closing.set()
            server.shutdown()
            server.server_close()

    def url(self, number: int) -> str:
        hosts = [*self._in_progress]
        return f"http://{hosts[number % len(hosts)]}:{self.port}/{kind_of(number)}/{number}.png"

    def _answer(self, request: Request) -> None:
        host = request.server.server_address[0]
        with self._lock:
            here = self._in_progress[host]
            here[:] = [other for other in here if not _is_gone(other)]
            here.append(request.connection)
            self.visits.append(Visit(time.monotonic(), host, request.path, len(here)))
        kind, _, name = request.path[1:].partition("/")
        try:
            if name:
                getattr(self, f"_{kind}")(request, int(name.partition(".")[0]), lambda: self._done(host, request))
            else:
                self._done(host, request)
                request.send(404)  # robots.txt and similar
        except OSError:
            pass  # the client hung up
        finally:
            self._done(host, request)

    def _done(self, host: str, request: Request) -> None:
        """Stop counting the request. Called before its last byte is sent: the next one may follow at once."""
        with self._lock:
            if request.connection in self._in_progress[host]:
                self._in_progress[host].remove(request.connection)

    def _good(self, request: Request, number: int, done: Callable[[], None]) -> None:
        done()
        request.send(200, image_of(number), "image/png")

    def _missing(self, request: Request, number: int, done: Callable[[], None]) -> None:
        done()
        request.send(404)

    def _busy(self, request: Request, number: int, done: Callable[[], None]) -> None:
        if self._first(number):
            done()
            with self._lock:
                self.pauses.append((time.monotonic(), request.server.server_address[0]))
            request.send(429, Retry_After=str(PAUSE))
        else:
            self._good(request, number, done)

    def _failing(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """A temporary fault: until the next try, or until the next run."""
        if self._first(number) or (number // 20 % 2 and self.run == 1):
            done()
            request.send(500)
        else:
            self._good(request, number, done)

    def _stalled(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """Half an image, then nothing: once, or throughout the first run."""
        if self._first(number) or (number // 20 % 2 and self.run == 1):
            data = image_of(number)
            request.send(200, data[: len(data) // 2], "image/png", Content_Length=str(len(data)))
            while not (_is_gone(request.connection) or request.server.closing.is_set()):
                select.select([request.connection], [], [], 0.5)
        else:
            self._good(request, number, done)

    def _endless(self, request: Request, number: int, done: Callable[[], None]) -> None:
        request.send_response(200)
        request.end_headers()
        while not request.server.closing.is_set():
            request.wfile.write(image_of(0) * 16)

    def _dripping(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """A byte every 0.1 s, without end."""
        request.send_response(200)
        request.end_headers()
        while not request.server.closing.wait(0.1):
            request.wfile.write(b"x")

    def _longer(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """A Content-Length greater than the body, throughout the first run."""
        if self.run == 1:
            data = image_of(number)
            done()
            request.send(200, data, "image/png", Content_Length=str(len(data) + 999))
            request.hang_up()
        else:
            self._good(request, number, done)

    def _shorter(self, request: Request, number: int, done: Callable[[], None]) -> None:
        data = image_of(number)
        done()
        request.send(200, data, "image/png", Content_Length=str(len(data) // 2))

    def _html(self, request: Request, number: int, done: Callable[[], None]) -> None:
        done()
        request.send(200, b"<!DOCTYPE html><title>Sign in</title>", "image/png")

    def _loop(self, request: Request, number: int, done: Callable[[], None]) -> None:
        done()
        request.send(302, Location=f"/loop/{number}.{'jpg' if request.path.endswith('png') else 'png'}")

    def _inward(self, request: Request, number: int, done: Callable[[], None]) -> None:
        done()
        inward = INWARD[number // 20 % len(INWARD)]
        request.send(302, Location=f"http://{inward}:{self._inward_port}/secret.png")

    def _first(self, number: int) -> bool:
        with self._lock:
            self._tries[number] += 1
            return self._tries[number] == 1


def _is_gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end: the kernel knows before the thread that serves it does."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
