"""Turns a stranger's URL into bytes: every hop checked, polite to its host, bounded in time and size, tried again."""

from __future__ import annotations

import asyncio
import urllib.request
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore
import httpx
import stamina

from pipeline.addresses import AddressGuard, ForbiddenAddress, GuardedBackend
from pipeline.host_limits import HostLimit, host_limit
from pipeline.opt_outs import ROBOTS_BYTES, Robots, opt_out
from pipeline.refusal import Refused
from pipeline.web import MAX_REDIRECTS, MAX_WAIT, client_settings, describe, is_transient, retry_after, retry_wait
from schemas import Reason
from schemas.config import FetchConfig

DEFAULT_RATE = 10.0  # requests a second to one host of the public web
_PERMANENT = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A body, and the opt-out header it came with where the config does not honour those."""

    data: bytes
    opt_out: str | None = None


class Downloader:
    """Downloads in one event loop. ``own``: the origin that the user named as the source, see AddressGuard.

    Through a proxy of the environment the proxy connects, so that only the host name can be checked.
    """

    def __init__(self, settings: FetchConfig, own: str | None = None) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings.allow_hosts, _host_and_port(own) if own else None)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._robots = Robots(self._read_robots)
        self._proxies = urllib.request.getproxies()
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def get(self, url: str) -> Download:
        """The body of an http(s) URL, with retries. Raises Refused."""
        return await self._tried(url, self._settings.max_bytes)

    async def _tried(self, url: str, max_bytes: int, *, robots: bool = True) -> Download:
        try:
            async for attempt in stamina.retry_context(
                on=retry_wait, attempts=self._settings.retries + 1, timeout=None, wait_initial=0.5, wait_max=20
            ):
                with attempt:
                    return await self._follow(url, max_bytes, robots)
        except httpx.HTTPStatusError as error:
            raise Refused(Reason.HTTP_ERROR, describe(error), transient=is_transient(error.response)) from None
        except ForbiddenAddress as error:
            raise Refused(Reason.FORBIDDEN_ADDRESS, str(error)) from None
        except _PERMANENT as error:
            raise Refused(Reason.FETCH_FAILED, describe(error)) from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise Refused(Reason.FETCH_FAILED, describe(error), transient=True) from None
        raise AssertionError("stamina either returns or raises")

    async def _follow(self, url: str, max_bytes: int, robots: bool) -> Download:
        """One try: the URL and its redirects, each hop checked like the first."""
        seen: set[str] = set()
        target = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            target = target.copy_with(fragment=None)
            if str(target) in seen:
                raise Refused(Reason.TOO_MANY_REDIRECTS, "the redirects go in a circle")
            seen.add(str(target))
            answer = await self._hop(target, max_bytes, robots)
            if isinstance(answer, Download):
                return answer
            target = target.join(answer)
        raise Refused(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _hop(self, url: httpx.URL, max_bytes: int, robots: bool) -> Download | str:
        """One request: the body, or where the answer redirects to."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(Reason.FORBIDDEN_ADDRESS, f"not an http(s) URL: {url}"[:300])
        host, port = _host_and_port(str(url))
        own = self._guard.is_own(host, port)
        rate = self._settings.per_host_rate or (None if own else DEFAULT_RATE)
        limit = host_limit(f"{host}:{port}", self._settings.per_host_concurrency, rate)
        if robots and self._settings.respect_robots and not own:
            await self._guard.check_name(host, port)  # rather than ask a forbidden host for its robots.txt
            if delay := await self._robots.check(str(url)):
                limit.slow_down(delay)
        client = await self._client_for(url, host, port)
        async with limit.request(MAX_WAIT), self._slots, asyncio.timeout(self._settings.timeout):
            return await self._request(client, url, max_bytes, limit)

    async def _request(
        self, client: httpx.AsyncClient, url: httpx.URL, max_bytes: int, limit: HostLimit
    ) -> Download | str:
        async with asyncio.timeout(self._settings.first_byte_timeout):
            try:
                response = await client.send(client.build_request("GET", url), stream=True)
            except httpx.RemoteProtocolError as error:
                if isinstance(error.__cause__ or error.__context__, httpx.InvalidURL) or "location" in str(error):
                    raise Refused(Reason.FETCH_FAILED, f"a redirect to no URL ({error})") from None
                raise
        try:
            if response.is_error and (wait := retry_after(response)):
                limit.pause(wait)
            if response.has_redirect_location:
                return str(response.headers["Location"])
            response.raise_for_status()
            objection = opt_out(response.headers)
            if objection and self._settings.respect_opt_outs:
                raise Refused(Reason.OPTED_OUT, objection)
            return Download(data=await _body(response, max_bytes), opt_out=objection)
        finally:
            await response.aclose()

    async def _read_robots(self, url: str) -> tuple[int, bytes]:
        """Status and body of a robots.txt: 404 for whatever says that there is none."""
        try:
            return 200, (await self._tried(url, ROBOTS_BYTES, robots=False)).data
        except Refused as refused:
            if refused.transient or refused.reason is Reason.FORBIDDEN_ADDRESS:
                raise
            return 404, b""

    async def _client_for(self, url: httpx.URL, host: str, port: int) -> httpx.AsyncClient:
        """The client that connects by itself, or through the environment's proxy for this URL."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if self._guard.is_own(host, port) or not proxy or urllib.request.proxy_bypass(host):
            proxy = None
        else:
            await self._guard.check_name(host, port)
        if proxy not in self._clients:
            self._clients[proxy] = await self._stack.enter_async_context(self._new_client(proxy))
        return self._clients[proxy]

    def _new_client(self, proxy: str | None) -> httpx.AsyncClient:
        asked = client_settings(self._settings.timeout) | {"follow_redirects": False, "mounts": None}
        asked["timeout"] = httpx.Timeout(
            self._settings.timeout, connect=self._settings.connect_timeout, read=self._settings.first_byte_timeout
        )
        asked["headers"] |= {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * self._settings.concurrency)
        if proxy:
            return httpx.AsyncClient(proxy=proxy, trust_env=False, http2=True, limits=limits, **asked)
        return httpx.AsyncClient(transport=_GuardedTransport(self._guard, limits), trust_env=False, **asked)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport with connections opened by GuardedBackend: httpx itself has no place to hand one over."""

    def __init__(self, guard: AddressGuard, limits: httpx.Limits) -> None:
        super().__init__(http2=True, limits=limits)
        self._pool: Any = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http2=True,
            network_backend=GuardedBackend(guard),
        )


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    too_large = Refused(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):  # not asked for; unpacked no further than the limit
        try:
            body = bytearray(zlib.decompressobj(47).decompress(body, max_bytes + 1))
        except zlib.error as error:
            raise Refused(Reason.NOT_AN_IMAGE, f"Content-Encoding {encoding} that does not unpack: {error}") from None
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
