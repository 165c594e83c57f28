"""Turns a stranger's URL into bytes: every hop checked, polite to its host, bounded in time and size, tried again."""

from __future__ import annotations

import asyncio
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import stamina

from pipeline.addresses import AddressGuard, ForbiddenAddress
from pipeline.host_limits import HostLimit, Slots, host_limit
from pipeline.opt_outs import ROBOTS_BYTES, Reservations, Robots, opt_out
from pipeline.refusal import Refused
from pipeline.transport import GuardedTransport
from pipeline.web import MAX_REDIRECTS, MAX_WAIT, describe, is_transient, retry_after, retry_wait, user_agent
from schemas import Reason
from schemas.config import FetchConfig

DEFAULT_RATE = 10.0  # requests a second to one host of the public web
_PERMANENT = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Version:
    """By what a server knows a body again: the address that gave it, and the headers it gave with it."""

    url: str
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, url: httpx.URL, headers: httpx.Headers) -> Version | None:
        """The version of an answer, or None where its server names none."""
        etag, modified = headers.get("ETag"), headers.get("Last-Modified")
        return cls(url=str(url), etag=etag, last_modified=modified) if etag or modified else None

    def conditions(self) -> dict[str, str]:
        """Headers that ask for the body only where it has changed since."""
        stated = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in stated.items() if value}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A body from before. ``read`` gives its bytes, or None where they are gone."""

    version: Version
    read: Callable[[], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Download:
    """A body, and the opt-out it came with where the config does not honour those."""

    data: bytes
    opt_out: str | None = None
    version: Version | None = None


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is asked for: at most so many bytes, heard what the site says to robots, unless it is ``known``."""

    max_bytes: int
    heed: bool = True
    known: Known | None = None


class Downloader:
    """Downloads in one event loop. ``own``: the origin that the user named as the source, see AddressGuard.

    Through a proxy of the environment the proxy connects, so that only the host name can be checked.
    """

    def __init__(self, settings: FetchConfig, own: str | None = None) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings.allow_hosts, _host_and_port(own) if own else None)
        self.slots = Slots(settings.concurrency)
        self._robots, self._reservations = Robots(self._read_for_robots), Reservations(self._read_for_robots)
        self._proxies = urllib.request.getproxies()
        self._transports: dict[str | None, httpx.AsyncBaseTransport] = {}
        self._headers = httpx.Headers(
            {"User-Agent": user_agent(), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        )
        timeout = httpx.Timeout(
            settings.timeout, connect=settings.connect_timeout, read=settings.first_byte_timeout
        ).as_dict()
        self._extensions = {"timeout": timeout}
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._stack.aclose()

    async def get(self, url: str, known: Known | None = None) -> Download:
        """The body of an http(s) URL, with retries; that of ``known`` where it has not changed. Raises Refused."""
        return await self._tried(url, _Wanted(max_bytes=self._settings.max_bytes, known=known))

    async def _tried(self, url: str, wanted: _Wanted) -> Download:
        try:
            async for attempt in stamina.retry_context(
                on=retry_wait, attempts=self._settings.retries + 1, timeout=None, wait_initial=0.5, wait_max=20
            ):
                with attempt:
                    return await self._follow(url, wanted)
        except httpx.HTTPStatusError as error:
            raise Refused(Reason.HTTP_ERROR, describe(error), transient=is_transient(error.response)) from None
        except ForbiddenAddress as error:
            raise Refused(Reason.FORBIDDEN_ADDRESS, str(error)) from None
        except _PERMANENT as error:
            raise Refused(Reason.FETCH_FAILED, describe(error)) from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise Refused(Reason.FETCH_FAILED, describe(error), transient=True) from None
        raise AssertionError("stamina either returns or raises")

    async def _follow(self, url: str, wanted: _Wanted) -> Download:
        """One try: the URL and its redirects, each hop checked like the first."""
        seen: set[str] = set()
        target = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            if target.fragment:
                target = target.copy_with(fragment=None)
            if str(target) in seen:
                raise Refused(Reason.TOO_MANY_REDIRECTS, "the redirects go in a circle")
            seen.add(str(target))
            answer = await self._hop(target, wanted)
            if isinstance(answer, Download):
                return answer
            target = target.join(answer)
        raise Refused(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _hop(self, url: httpx.URL, wanted: _Wanted) -> Download | str:
        """One request: the body, or where the answer redirects to."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(Reason.FORBIDDEN_ADDRESS, f"not an http(s) URL: {url}"[:300])
        host, port = _host_and_port(str(url))
        own = self._guard.is_own(host, port)
        rate = self._settings.per_host_rate or (None if own else DEFAULT_RATE)
        limit = host_limit(f"{host}:{port}", self._settings.per_host_concurrency, rate)
        reserved = None
        if wanted.heed and not own:
            if self._settings.respect_robots and (delay := await self._robots.check(str(url))):
                limit.slow_down(delay)
            reserved = await self._reservations.check(str(url)) if self._settings.respect_opt_outs else None
        transport = await self._transport_for(url, host, port)
        async with limit.request(MAX_WAIT, self.slots), asyncio.timeout(self._settings.timeout):
            return await self._request(transport, url, wanted, limit, reserved)

    async def _request(
        self, transport: httpx.AsyncBaseTransport, url: httpx.URL, wanted: _Wanted, limit: HostLimit,
        reserved: str | None,
    ) -> Download | str:  # fmt: skip
        known = wanted.known if wanted.known and wanted.known.version.url == str(url) else None
        headers = self._headers
        if known:
            headers = httpx.Headers([*headers.items(), *known.version.conditions().items()])
        request = httpx.Request("GET", url, headers=headers, extensions=self._extensions)
        async with asyncio.timeout(self._settings.first_byte_timeout):
            response = await transport.handle_async_request(request)
        response.request = request
        try:
            if response.is_error and (wait := retry_after(response)):
                limit.pause(wait)
            if response.has_redirect_location:
                return str(response.headers["Location"])
            unchanged = known if response.status_code == httpx.codes.NOT_MODIFIED else None
            if not unchanged:
                response.raise_for_status()
            objection = opt_out(response.headers, reserved)
            if objection and self._settings.respect_opt_outs:
                raise Refused(Reason.OPTED_OUT, objection)
            if unchanged:
                return _from_before(unchanged, objection, wanted.max_bytes)
            data = await _body(response, wanted.max_bytes)
            return Download(data=data, opt_out=objection, version=Version.of(url, response.headers))
        finally:
            await response.aclose()

    async def _read_for_robots(self, url: str) -> tuple[int, bytes]:
        """Status and body of a file that a site writes for robots: 404 for whatever says that there is none."""
        try:
            return 200, (await self._tried(url, _Wanted(max_bytes=ROBOTS_BYTES, heed=False))).data
        except Refused as refused:
            if refused.transient or refused.reason is Reason.FORBIDDEN_ADDRESS:
                raise
            return 404, b""

    async def _transport_for(self, url: httpx.URL, host: str, port: int) -> httpx.AsyncBaseTransport:
        """What connects by itself, or through the environment's proxy for this URL."""
        proxy = self._proxies and (self._proxies.get(url.scheme) or self._proxies.get("all"))
        if self._guard.is_own(host, port) or not proxy or urllib.request.proxy_bypass(host):
            proxy = None
        else:
            await self._guard.check_name(host, port)
        if proxy not in self._transports:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * self._settings.concurrency)
            transport = (
                httpx.AsyncHTTPTransport(proxy=proxy, verify=httpx.create_ssl_context(), http2=True, limits=limits)
                if proxy
                else GuardedTransport(self._guard, limits)
            )
            self._transports[proxy] = await self._stack.enter_async_context(transport)
        return self._transports[proxy]


def _from_before(known: Known, objection: str | None, max_bytes: int) -> Download:
    """What the server says has not changed."""
    data = known.read()
    if data is None:
        raise Refused(Reason.FETCH_FAILED, "unchanged, but the bytes from before are gone", transient=True)
    if len(data) > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return Download(data=data, opt_out=objection, version=known.version)


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
