"""HTTP GET over connections to checked addresses only, with the cheaper of two clients.

aiohttp parses HTTP/1.1 in C: an image of 170 KB costs it 0.3 ms of processor time, where httpcore takes 2.5 ms. It has
no HTTP/2, so the first request to an https origin goes through httpcore, which offers both; if the response is
HTTP/1.1, aiohttp does the rest. What httpx builds around a request (URL, headers, request, response) would cost as
much again as the request itself, so it is built only for errors and redirects.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict, MultiMapping

from surd.pipeline.net.address_guard import AddressGuard, ForbiddenAddress
from surd.pipeline.net.httpcore_transport import AsyncHttpcoreTransport
from surd.pipeline.net.lenient_transport import LenientTransport
from surd.pipeline.net.request_url import Origin, RequestUrl

_READ_BUFFER = 2**18  # bytes of one response that may wait to be read
_LINE = 2**16  # bytes of a line of a head, as in http.client; aiohttp's own limit is 8 KB
_HEADERS = 1_000  # of a response; aiohttp itself stops at 128, curl at 5,000
_REFUSED_BY_H11 = re.compile(r"illegal|Content-Length|Transfer-Encoding|Receive buffer too long")
_ADDED_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding")  # we send our own or none


class UnreadableHead(httpx.RemoteProtocolError):
    """A response whose head the client does not take for HTTP."""


class Response(Protocol):
    """A response whose headers have arrived. Close it after use."""

    status: int
    reason: str
    http_version: str

    @property
    def headers(self) -> MultiMapping[str]: ...

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""

    async def read(self) -> bytes:
        """The whole body, whatever its size."""

    async def aclose(self) -> None: ...


class Transport(Protocol):
    """Sends GET requests. Raises httpx's errors, and ForbiddenAddress before anything is contacted."""

    async def send(self, url: RequestUrl, headers: Mapping[str, str]) -> Response: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds to connect, and to the first or next byte of a response; None: no limit."""

    connect: float | None = None
    first_byte: float | None = None


class GuardedTransport:
    """The Transport that connects itself, with the client for the HTTP version of the origin."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits, timeouts: Timeouts) -> None:
        self._http1 = AiohttpTransport(guard, limits, timeouts)
        self._http2 = HttpxTransport(AsyncHttpcoreTransport(guard, _tls(2), limits), timeouts)
        self._lenient = LenientTransport(guard, lambda: _tls(1), timeouts.first_byte)
        self._only_http1: set[Origin] = set()
        self._only_lenient: set[Origin] = set()

    async def send(self, url: RequestUrl, headers: Mapping[str, str]) -> Response:
        if url.origin not in self._only_lenient:
            try:
                return await self._send(url, headers)
            except UnreadableHead:
                self._only_lenient.add(url.origin)
        return await self._lenient.send(url, headers)

    async def _send(self, url: RequestUrl, headers: Mapping[str, str]) -> Response:
        if url.origin.scheme == "http" or url.origin in self._only_http1:
            return await self._http1.send(url, headers)
        try:
            response = await self._http2.send(url, headers)
        except httpx.RemoteProtocolError as error:
            raise (UnreadableHead(str(error)) if _REFUSED_BY_H11.search(str(error)) else error) from error
        if response.http_version.startswith("HTTP/1"):
            self._only_http1.add(url.origin)
        return response

    async def aclose(self) -> None:
        await self._http1.aclose()
        await self._http2.aclose()


class HttpxTransport:
    """httpx as a Transport."""

    def __init__(self, inner: httpx.AsyncBaseTransport, timeouts: Timeouts) -> None:
        self._inner, self._first_byte = inner, timeouts.first_byte
        timeout = httpx.Timeout(timeouts.first_byte, connect=timeouts.connect)
        self._extensions = {"timeout": timeout.as_dict()}

    async def send(self, url: RequestUrl, headers: Mapping[str, str]) -> Response:
        request = httpx.Request("GET", url.text, headers=headers, extensions=self._extensions)
        async with asyncio.timeout(self._first_byte):
            return _HttpxResponse(await self._inner.handle_async_request(request))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _HttpxResponse:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status, self.reason, self.http_version = (
            response.status_code, response.reason_phrase, response.http_version
        )  # fmt: skip
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.headers.raw
        self.headers: MultiMapping[str] = CIMultiDict(response.headers.multi_items())

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.aiter_raw()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def aclose(self) -> None:
        await self._response.aclose()


class AiohttpTransport:
    """aiohttp as a Transport, its names resolved by the guard."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits, timeouts: Timeouts) -> None:
        self._resolver = _GuardedResolver(guard)
        self._limits = limits
        self._timeout = aiohttp.ClientTimeout(connect=timeouts.connect, sock_read=timeouts.first_byte)
        self._sockets: list[socket.socket] = []
        self._literals: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: RequestUrl, headers: Mapping[str, str]) -> Response:
        self._session = self._session or self._new_session()
        target = yarl.URL(url.text, encoded=True)
        if target.raw_host and (":" in target.raw_host or target.raw_host.replace(".", "").isdigit()):
            # aiohttp passes what looks like an address to the system unresolved, where 2130706433 means 127.0.0.1.
            target = target.with_host(await self._literal(target.raw_host, target.port or 0))
        if self._is_crowded():
            headers = {**headers, "Connection": "close"}
        with _errors_of_httpx():
            response = await self._session.get(target, headers=headers, timeout=self._timeout, allow_redirects=False)
        return _AiohttpResponse(response)

    async def _literal(self, host: str, port: int) -> str:
        """The address of a host that looks like one: always the same, so that it is resolved once."""
        if (address := self._literals.get(f"{host}:{port}")) is None:
            address = self._literals[f"{host}:{port}"] = (await self._resolver.addresses(host, port))[0]
        return address

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            limit=0,
            keepalive_timeout=self._limits.keepalive_expiry or 5.0,
            ssl=_tls(1),
            socket_factory=self._open_socket,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_ADDED_BY_AIOHTTP,
            read_bufsize=_READ_BUFFER,
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_HEADERS,
        )
        session._retry_connection = False  # a retry would bypass the host's limits (aiohttp's own tests set it, too)
        return session

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """The socket of a new connection. This is the last check of an address, however it was found."""
        family, kind, protocol, _, (host, *_) = address
        if host not in self._resolver.checked:
            raise ForbiddenAddress(f"{host} was not checked")
        new = socket.socket(family, kind, protocol)
        new.setblocking(False)
        self._sockets.append(new)
        return new

    def _is_crowded(self) -> bool:
        """Whether the limit of open connections is reached: aiohttp itself keeps any number of idle ones."""
        most = self._limits.max_keepalive_connections
        if most is None or len(self._sockets) < most:
            return False
        self._sockets = [each for each in self._sockets if each.fileno() >= 0]
        return len(self._sockets) >= most


class _GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp to addresses that the guard allows, and remembers those."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self.checked: set[str] = set()

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a host. Raises ForbiddenAddress, or httpx.ConnectError if it does not resolve."""
        try:
            addresses = await self._guard.resolve(host.rstrip("."), port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"the name {host} does not resolve ({error})") from None
        self.checked |= set(addresses)
        return addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.addresses(host, port)
        ]

    async def close(self) -> None:
        pass


class _AiohttpResponse:
    http_version = "HTTP/1.1"

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status, self.reason = response.status, response.reason or ""
        self.headers: MultiMapping[str] = response.headers
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.raw_headers

    async def chunks(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def read(self) -> bytes:
        with _errors_of_httpx():
            return await self._response.content.read()

    async def aclose(self) -> None:
        self._response.close()  # a response read to its end has released its connection by then


def _tls(version: int) -> ssl.SSLContext:
    """The TLS context, made once per process. One for each HTTP version: httpcore modifies the one it gets."""
    return _tls_of(version, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _tls_of(version: int, *variables: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raises aiohttp's errors as those of httpx."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except aiohttp.ServerTimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error)) from error
    except aiohttp.ClientOSError as error:
        raise httpx.ReadError(str(error)) from error
    except aiohttp.ClientResponseError as error:  # of the parser: status codes raise nothing here
        raise UnreadableHead(str(error) or type(error).__name__) from error
    except aiohttp.ClientError as error:  # a truncated response, or not HTTP
        raise httpx.RemoteProtocolError(str(error) or type(error).__name__) from error
