"""Turns a request into an answer over connections to checked addresses only, by the cheaper of two clients.

aiohttp parses HTTP/1.1 in C: an image of 170 KB costs it 0.3 ms of processor time, where httpcore takes 2.5 ms. It does
not speak HTTP/2, so an https origin is first asked through httpcore, which offers both; one that answers in HTTP/1.1 is
left to aiohttp from then on.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import aiohttp
import httpcore
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.addresses import AddressGuard, ForbiddenAddress, GuardedBackend

_READ_BUFFER = 2**18  # bytes of one answer that may wait to be read
_ADDED_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding")  # our own go out, or none


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests of an httpx client. Raises httpx's errors, and ForbiddenAddress before anything is contacted."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits) -> None:
        self._http1 = _Http1(guard, limits)
        self._http2 = _Http2(guard, limits)
        self._only_http1: set[tuple[str, int | None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = (request.url.host, request.url.port)
        if request.url.scheme == "http" or origin in self._only_http1:
            return await self._http1.handle_async_request(request)
        response = await self._http2.handle_async_request(request)
        if response.http_version.startswith("HTTP/1"):
            self._only_http1.add(origin)
        return response

    async def aclose(self) -> None:
        await self._http1.aclose()
        await self._http2.aclose()


class _Http2(httpx.AsyncHTTPTransport):
    """httpx's transport with connections opened by GuardedBackend: httpx itself has no place to hand one over."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits) -> None:
        super().__init__(verify=_tls(2), http2=True, limits=limits)
        self._pool: Any = httpcore.AsyncConnectionPool(
            ssl_context=_tls(2),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http2=True,
            network_backend=GuardedBackend(guard),
        )


class _Http1(httpx.AsyncBaseTransport):
    """aiohttp behind httpx's interface, its names resolved by the guard."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits) -> None:
        self._resolver = _GuardedResolver(guard)
        self._limits = limits
        self._sockets: list[socket.socket] = []
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._session = self._session or self._new_session()
        url = yarl.URL(str(request.url), encoded=True)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw}
        if url.raw_host and (":" in url.raw_host or url.raw_host.replace(".", "").isdigit()):
            # What looks like an address aiohttp hands to the system unresolved, and that reads 2130706433 as 127.0.0.1.
            url = url.with_host((await self._resolver.addresses(url.raw_host, url.port or 0))[0])
        if self._is_crowded():
            headers["Connection"] = "close"
        asked = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(connect=asked.get("connect"), sock_read=asked.get("read"))
        with _errors_of_httpx():
            response = await self._session.request(
                request.method, url, headers=headers, timeout=timeout, allow_redirects=False
            )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response),
            request=request,
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
            },
        )

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
        )
        session._retry_connection = False  # the second try would pass the host's limits by (its tests turn it off, too)
        return session

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """The socket of a new connection: the last gate, whatever way an address came here."""
        family, kind, protocol, _, (host, *_) = address
        if host not in self._resolver.checked:
            raise ForbiddenAddress(f"{host} was not checked")
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        self._sockets.append(opened)
        return opened

    def _is_crowded(self) -> bool:
        """Whether as many connections are open as may be: aiohttp itself keeps any number of idle ones."""
        most = self._limits.max_keepalive_connections
        if most is None or len(self._sockets) < most:
            return False
        self._sockets = [opened for opened in self._sockets if opened.fileno() >= 0]
        return len(self._sockets) >= most


class _GuardedResolver(AbstractResolver):
    """Gives aiohttp the addresses of a name that the guard lets through, and remembers them."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self.checked: set[str] = set()

    async def addresses(self, host: str, port: int) -> list[str]:
        """Every address of a host. Raises ForbiddenAddress, or httpx.ConnectError where there is none."""
        try:
            found = await self._guard.resolve(host.rstrip("."), port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"the name {host} does not resolve ({error})") from None
        self.checked |= set(found)
        return found

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


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        self._response.close()  # an answer read to its end has given its connection back by then


def _tls(version: int) -> ssl.SSLContext:
    """What is trusted, read once a process. Each HTTP version has its own: httpcore writes into its one."""
    return _tls_of(version, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _tls_of(version: int, *named: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """aiohttp's errors as those of httpx."""
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
    except aiohttp.ClientError as error:  # cut short, or not HTTP
        raise httpx.RemoteProtocolError(str(error) or type(error).__name__) from error
