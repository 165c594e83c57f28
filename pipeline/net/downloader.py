"""Downloads of untrusted URLs: checks every hop, keeps to robots.txt and rate limits, retries, limits size and time."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from multidict import MultiMapping

from surd.pipeline.net.address_guard import AddressGuard, ForbiddenAddress
from surd.pipeline.net.rate_limit import Limiter, Slots, host_limiter, per_process
from surd.pipeline.net.request_url import Origin, RequestUrl
from surd.pipeline.net.retry import (
    MAX_REDIRECTS,
    MAX_WAIT,
    UnreadableResponse,
    attempts,
    describe,
    is_transient,
    retry_after,
    user_agent,
)
from surd.pipeline.net.robots import ROBOTS_BYTES, Reservations, Robots, opt_out
from surd.pipeline.net.transport import GuardedTransport, HttpxTransport, Response, Timeouts, Transport
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig

DEFAULT_RATE = 10.0  # requests a second to one host of the public web
_PERMANENT = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnreadableResponse, ValueError)


@dataclass(frozen=True, kw_only=True)
class Validators:
    """ETag and Last-Modified of a body (RFC 9110, 8.8), and the URL that it came from."""

    url: str
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, url: str, headers: MultiMapping[str]) -> Validators | None:
        """The validators of a response, or None if it has none in ASCII, which is all that they may be."""
        values = (headers.get("ETag"), headers.get("Last-Modified"))
        etag, modified = (value if value and value.isascii() else None for value in values)
        return cls(url=url, etag=etag, last_modified=modified) if etag or modified else None

    def conditions(self) -> dict[str, str]:
        """Headers of a conditional request: the body is sent only if it has changed."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}


@dataclass(frozen=True, kw_only=True)
class CachedBody:
    """A body of an earlier run. ``read`` returns its bytes, or None if they are lost."""

    validators: Validators
    read: Callable[[], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Download:
    """A body, and the opt-out that came with it if the config does not respect those."""

    data: bytes
    opt_out: str | None = None
    validators: Validators | None = None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How a URL is downloaded. ``cached``: an earlier body of it, which is not downloaded again if it is unchanged."""

    max_bytes: int
    respect_robots: bool = True
    cached: CachedBody | None = None


class _Host(NamedTuple):
    """An origin's limiter, and whether it is the one that the user gave as the source."""

    limiter: Limiter
    is_trusted: bool


class Downloader:
    """Downloads in one event loop.

    ``trusted_url``: a URL of the origin that the user gave as the source, see AddressGuard. A proxy of the environment
    connects itself, so that only the host name can be checked.
    """

    def __init__(self, settings: FetchConfig, trusted_url: str | None = None) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings.allow_hosts, _host_and_port(trusted_url) if trusted_url else None)
        self.slots = Slots(per_process(settings.concurrency))
        self._robots, self._reservations = Robots(self._read_for_robots), Reservations(self._read_for_robots)
        self._proxies = urllib.request.getproxies()
        self._transports: dict[str | None, Transport] = {}
        self._hosts: dict[Origin, _Host] = {}
        self._headers = {"User-Agent": user_agent(), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def get(self, url: str, cached: CachedBody | None = None) -> Download:
        """The body of an http(s) URL, with retries; the ``cached`` one if it is unchanged. Raises Rejected."""
        return await self._download(url, _Options(max_bytes=self._settings.max_bytes, cached=cached))

    async def _download(self, url: str, options: _Options) -> Download:
        try:
            try:
                return await self._follow(url, options)
            except (httpx.HTTPError, TimeoutError) as error:  # most succeed at once, and stamina costs 0.1 ms a time
                return await self._retry(url, options, error)
        except httpx.HTTPStatusError as error:
            raise Rejected(Reason.HTTP_ERROR, describe(error), transient=is_transient(error.response)) from None
        except ForbiddenAddress as error:
            raise Rejected(Reason.FORBIDDEN_ADDRESS, str(error)) from None
        except _PERMANENT as error:
            raise Rejected(Reason.FETCH_FAILED, describe(error)) from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise Rejected(Reason.FETCH_FAILED, describe(error), transient=True) from None

    async def _retry(self, url: str, options: _Options, failure: Exception) -> Download:
        """The tries after a first one that ended in ``failure``."""
        async for attempt in attempts(self._settings.retries):
            with attempt:
                if attempt.num == 1:
                    raise failure
                return await self._follow(url, options)
        raise AssertionError("stamina either returns or raises")

    async def _follow(self, url: str, options: _Options) -> Download:
        """One try: the URL and its redirects, each hop checked like the first."""
        seen: set[str] = set()
        hop = RequestUrl.of(url)
        for _ in range(MAX_REDIRECTS + 1):
            if hop.text in seen:
                raise Rejected(Reason.TOO_MANY_REDIRECTS, "the redirects go in a circle")
            seen.add(hop.text)
            result = await self._hop(hop, options)
            if isinstance(result, Download):
                return result
            hop = hop.join(result)
        raise Rejected(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _hop(self, url: RequestUrl, options: _Options) -> Download | str:
        """One request: the body, or the Location of a redirect."""
        host = self._hosts.get(url.origin) or self._hosts.setdefault(url.origin, self._host(url.origin))
        reserved = None
        if options.respect_robots and not host.is_trusted:
            if self._settings.respect_robots and (delay := await self._robots.check(url)):
                host.limiter.slow_down(delay)
            reserved = await self._reservations.check(url) if self._settings.respect_opt_outs else None
        transport = await self._transport_for(url.origin, host.is_trusted)
        async with host.limiter.request(MAX_WAIT, self.slots), asyncio.timeout(self._settings.timeout):
            return await self._request(transport, url, options, host.limiter, reserved)

    def _host(self, origin: Origin) -> _Host:
        is_trusted = self._guard.is_trusted(origin.host, origin.port)
        rate = self._settings.per_host_rate or (None if is_trusted else DEFAULT_RATE)
        limits = (self._settings.per_host_concurrency, rate, self._settings.timeout)
        limiter = host_limiter(f"{origin.host}:{origin.port}", *limits)
        return _Host(limiter, is_trusted)

    async def _request(
        self, transport: Transport, url: RequestUrl, options: _Options, limiter: Limiter, reserved: str | None
    ) -> Download | str:
        cached = options.cached if options.cached and options.cached.validators.url == url.text else None
        headers = self._headers | cached.validators.conditions() if cached else self._headers
        response = await transport.send(url, headers)
        try:
            unchanged = cached if response.status == httpx.codes.NOT_MODIFIED else None
            if not (unchanged or 200 <= response.status < 300):
                return _redirect_location(response, url, limiter)
            objection = opt_out(response.headers, reserved)
            if objection and self._settings.respect_opt_outs:
                raise Rejected(Reason.OPTED_OUT, objection)
            if unchanged:
                return _not_modified(unchanged, objection, options.max_bytes)
            data = await _body(response, options.max_bytes)
            return Download(data=data, opt_out=objection, validators=Validators.of(url.text, response.headers))
        finally:
            await response.aclose()

    async def _read_for_robots(self, url: str) -> tuple[int, bytes]:
        """Status and body of robots.txt or tdmrep.json; every permanent failure counts as 404."""
        try:
            return 200, (await self._download(url, _Options(max_bytes=ROBOTS_BYTES, respect_robots=False))).data
        except Rejected as rejected:
            if rejected.transient or rejected.reason is Reason.FORBIDDEN_ADDRESS:
                raise
            return 404, b""

    async def _transport_for(self, origin: Origin, is_trusted: bool) -> Transport:
        """The transport that connects itself, or through the environment's proxy for this origin."""
        proxy = self._proxies and (self._proxies.get(origin.scheme) or self._proxies.get("all"))
        if is_trusted or not proxy or urllib.request.proxy_bypass(origin.host):
            proxy = None
        else:
            await self._guard.check_name(origin.host, origin.port)
        if proxy not in self._transports:
            limits = httpx.Limits(
                max_connections=None, max_keepalive_connections=2 * per_process(self._settings.concurrency)
            )
            timeouts = Timeouts(connect=self._settings.connect_timeout, first_byte=self._settings.first_byte_timeout)
            transport: Transport = (
                HttpxTransport(
                    httpx.AsyncHTTPTransport(proxy=proxy, verify=httpx.create_ssl_context(), http2=True, limits=limits),
                    timeouts,
                )
                if proxy
                else GuardedTransport(self._guard, limits, timeouts)
            )
            self._stack.push_async_callback(transport.aclose)
            self._transports[proxy] = transport
        return self._transports[proxy]


def _redirect_location(response: Response, url: RequestUrl, limiter: Limiter) -> str:
    """The Location of a redirect. Raises httpx.HTTPStatusError if the response is none; honours a Retry-After."""
    by_httpx = httpx.Response(
        response.status,
        headers=list(response.raw_headers),
        request=httpx.Request("GET", url.text),
        extensions={"reason_phrase": response.reason.encode("latin-1", "replace")},
    )
    if by_httpx.is_error and (wait := retry_after(by_httpx)):
        limiter.pause(wait)
    if not by_httpx.has_redirect_location:
        by_httpx.raise_for_status()
    return str(by_httpx.headers["Location"])


def _not_modified(cached: CachedBody, objection: str | None, max_bytes: int) -> Download:
    """The download of a body that is unchanged by its server (304)."""
    data = cached.read()
    if data is None:
        raise Rejected(Reason.FETCH_FAILED, "unchanged, but the bytes from before are gone", transient=True)
    if len(data) > max_bytes:
        raise Rejected(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return Download(data=data, opt_out=objection, validators=cached.validators)


async def _body(response: Response, max_bytes: int) -> bytes:
    too_large = Rejected(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    length = response.headers.get("Content-Length", "")
    bounded = length.isdecimal() and int(length[:20]) <= max_bytes
    if length.isdecimal() and not bounded:
        raise too_large
    if bounded and "Transfer-Encoding" not in response.headers:
        body = await response.read()
    else:
        body = await _read_up_to(response, max_bytes, too_large)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):  # sent unrequested; decompressed up to the limit
        with suppress(zlib.error):  # the header is wrong of many images, which curl and urllib take as they are
            body = zlib.decompressobj(47).decompress(body, max_bytes + 1)
    if len(body) > max_bytes:
        raise too_large
    return body


async def _read_up_to(response: Response, max_bytes: int, too_large: Rejected) -> bytes:
    body = bytearray()
    async for chunk in response.chunks():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
