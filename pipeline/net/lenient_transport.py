"""HTTP/1.1 for servers whose response heads aiohttp and h11 refuse, and curl, urllib and browsers read.

Such are a name with a blank before its colon, a line without a colon, two equal Content-Length, an empty one, or one
beside Transfer-Encoding. http.client of the standard library reads them all. It blocks, so every call has a thread; and
it is asked only where the others have failed.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import httpx
from multidict import CIMultiDict, MultiMapping

from surd.pipeline.net.address_guard import AddressGuard
from surd.pipeline.net.request_url import RequestUrl
from surd.pipeline.net.retry import UnreadableResponse

T = TypeVar("T")
_CHUNK = 2**16


class LenientTransport:
    """A Transport that makes one connection for each request."""

    def __init__(self, guard: AddressGuard, tls: Callable[[], ssl.SSLContext], timeout: float | None) -> None:
        self._guard, self._tls, self._timeout = guard, tls, timeout

    async def send(self, url: RequestUrl, headers: Mapping[str, str]) -> LenientResponse:
        """The response. Raises httpx's errors; UnreadableResponse if the head is no HTTP."""
        origin = url.origin
        try:
            addresses = await self._guard.resolve(origin.host, origin.port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"the name {origin.host} does not resolve ({error})") from None
        tls = self._tls() if origin.scheme == "https" else None
        connection = _Connection(url, addresses[0], self._timeout, tls)
        try:
            return LenientResponse(connection, await _in_thread(connection.response_to, headers))
        except BaseException:
            connection.close()
            raise

    async def aclose(self) -> None:
        pass


class LenientResponse:
    """A response of http.client."""

    http_version = "HTTP/1.1"

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self.status, self.reason = response.status, response.reason
        pairs = [*response.getheaders(), *_hidden_headers(response)]
        self.headers: MultiMapping[str] = CIMultiDict(pairs)
        self.raw_headers: Sequence[tuple[bytes, bytes]] = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await _in_thread(self._response.read, _CHUNK):
            yield chunk

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def aclose(self) -> None:
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked. TLS verifies the name in the URL."""

    def __init__(self, url: RequestUrl, address: str, timeout: float | None, tls: ssl.SSLContext | None) -> None:
        super().__init__(url.origin.host, url.origin.port, timeout=timeout)
        self.default_port = 443 if tls else 80  # as which no port stands in the Host header
        self._url, self._address, self._context = url, address, tls

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)

    def response_to(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send the request, and read the head of its response."""
        parts = urlsplit(self._url.text)
        self.putrequest(
            "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), skip_accept_encoding=True
        )
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.putheader("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        for name, value in headers.items():
            self.putheader(name, value)
        self.putheader("Connection", "close")
        self.endheaders()
        return self.getresponse()


def _hidden_headers(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """Headers behind a line that is none, where http.client stops: an opt-out among them counts, too."""
    rest = response.msg.get_payload()
    for line in rest.splitlines() if isinstance(rest, str) else ():
        name, colon, value = line.partition(":")
        if colon and name.strip():
            yield name.strip(), value.strip()


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    with _errors_of_httpx():
        return await asyncio.to_thread(work, *arguments)


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    try:
        yield
    except http.client.RemoteDisconnected as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except http.client.IncompleteRead as error:
        raise httpx.RemoteProtocolError(f"it breaks off after {len(error.partial)} bytes") from error
    except (http.client.HTTPException, ValueError) as error:
        raise UnreadableResponse(f"its head is not HTTP ({type(error).__name__})") from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except OSError as error:
        raise httpx.ReadError(str(error)) from error
