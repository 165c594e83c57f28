"""Turns a plan of good and bad addresses into a real server of several hosts that misbehaves and takes notes."""

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

#: Kind -> the reasons it may end with; none: an image, by the second run at the latest. Of a body longer than its
#: Content-Length either the part that counts arrives, which is broken, or the whole is no HTTP: as the packets fall.
OUTCOMES: dict[str, tuple[Reason, ...]] = {
    "good": (), "busy": (), "failing": (), "stalled": (), "longer": (), "missing": (Reason.HTTP_ERROR,),
    "endless": (Reason.TOO_LARGE,), "dripping": (Reason.FETCH_FAILED,),
    "shorter": (Reason.BROKEN_IMAGE, Reason.FETCH_FAILED), "html": (Reason.NOT_AN_IMAGE,),
    "loop": (Reason.TOO_MANY_REDIRECTS,), "inward": (Reason.FORBIDDEN_ADDRESS,),
}  # fmt: skip
#: One in twenty each of nine kinds; where there are two of a kind they take turns.
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
    """What the address with this number does: every twentieth the same, two of a kind in turn."""
    place, turn = number % 20, number // 20
    return TWENTIETHS[place][turn % len(TWENTIETHS[place])] if place < len(TWENTIETHS) else "good"


def image_of(number: int) -> bytes:
    return picture(size=(40, 30), seed=number)


@dataclass(frozen=True)
class Visit:
    """One request as its host saw it: when, for what, and how many were under way there with it."""

    at: float
    host: str
    path: str
    at_once: int


class HostileServer:
    """The planned addresses on ``hosts``, addresses of this machine, all at one port. Use it in a with block.

    ``run`` is 1 until the test says that the second run begins: what is half mended by then recovers there.
    """

    def __init__(self, hosts: list[str], inward_port: int) -> None:
        self.run = 1
        self.visits: list[Visit] = []
        self.pauses: list[tuple[float, str]] = []
        self._inward_port = inward_port
        self._tries: Counter[int] = Counter()
        self._under_way: dict[str, list[socket.socket]] = {host: [] for host in hosts}
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
        hosts = [*self._under_way]
        return f"http://{hosts[number % len(hosts)]}:{self.port}/{kind_of(number)}/{number}.png"

    def _answer(self, request: Request) -> None:
        host = request.server.server_address[0]
        with self._lock:
            here = self._under_way[host]
            here[:] = [other for other in here if not _is_gone(other)]
            here.append(request.connection)
            self.visits.append(Visit(time.monotonic(), host, request.path, len(here)))
        kind, _, name = request.path[1:].partition("/")
        try:
            if name:
                getattr(self, f"_{kind}")(request, int(name.partition(".")[0]), lambda: self._done(host, request))
            else:
                self._done(host, request)
                request.send(404)  # robots.txt and the like
        except OSError:
            pass  # the client has had enough
        finally:
            self._done(host, request)

    def _done(self, host: str, request: Request) -> None:
        """The request counts no more. Said before its last byte is sent: the client may ask anew at once after that."""
        with self._lock:
            if request.connection in self._under_way[host]:
                self._under_way[host].remove(request.connection)

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
        """A fault that passes: with the next try, or not before the next run."""
        if self._first(number) or (number // 20 % 2 and self.run == 1):
            done()
            request.send(500)
        else:
            self._good(request, number, done)

    def _stalled(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """Half an image and then silence: once, or all through the first run."""
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
        """A byte now and then: never silent for long, never at an end."""
        request.send_response(200)
        request.end_headers()
        while not request.server.closing.wait(0.1):
            request.wfile.write(b"x")

    def _longer(self, request: Request, number: int, done: Callable[[], None]) -> None:
        """A Content-Length of more than comes, all through the first run."""
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
