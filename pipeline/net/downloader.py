"""Turns a stranger's URL into bytes: every hop checked, polite to its host, bounded in time and size, tried again."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from multidict import MultiMapping

from surd.pipeline.net.address_guard import AddressGuard, ForbiddenAddress
from surd.pipeline.net.rate_limit import HostLimit, Slots, host_limit, per_process
from surd.pipeline.net.request_url import Origin, RequestUrl
from surd.pipeline.net.retry import MAX_REDIRECTS, MAX_WAIT, attempts, describe, is_transient, retry_after, user_agent
from surd.pipeline.net.robots import ROBOTS_BYTES, Reservations, Robots, opt_out
from surd.pipeline.net.transport import GuardedTransport, HttpxTransport, Response, Timeouts, Transport
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason
from surd.schemas.config import FetchConfig

DEFAULT_RATE = 10.0  # requests a second to one host of the public web
_PERMANENT = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Version:
    """By what a server knows a body again: the address that gave it, and the headers it gave with it."""

    url: str
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, url: str, headers: MultiMapping[str]) -> Version | None:
        """The version of an answer, or None where its server names none, or in other letters than it may."""
        stated = (headers.get("ETag"), headers.get("Last-Modified"))
        etag, modified = (value if value and value.isascii() else None for value in stated)
        return cls(url=url, etag=etag, last_modified=modified) if etag or modified else None

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

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is asked for: at most so many bytes, heard what the site says to robots, unless it is ``known``."""

    max_bytes: int
    heed: bool = True
    known: Known | None = None


class _Host(NamedTuple):
    """What is known of an origin: its limits, and whether it is the user's own."""

    limit: HostLimit
    own: bool


class Downloader:
    """Downloads in one event loop. ``own``: the origin that the user named as the source, see AddressGuard.

    Through a proxy of the environment the proxy connects, so that only the host name can be checked.
    """

    def __init__(self, settings: FetchConfig, own: str | None = None) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings.allow_hosts, _host_and_port(own) if own else None)
        self.slots = Slots(per_process(settings.concurrency))
        self._robots, self._reservations = Robots(self._read_for_robots), Reservations(self._read_for_robots)
        self._proxies = urllib.request.getproxies()
        self._transports: dict[str | None, Transport] = {}
        self._hosts: dict[Origin, _Host] = {}
        self._headers = {"User-Agent": user_agent(), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._stack.aclose()

    async def get(self, url: str, known: Known | None = None) -> Download:
        """The body of an http(s) URL, with retries; that of ``known`` where it has not changed. Raises Rejected."""
        return await self._tried(url, _Wanted(max_bytes=self._settings.max_bytes, known=known))

    async def _tried(self, url: str, wanted: _Wanted) -> Download:
        try:
            try:
                return await self._follow(url, wanted)
            except (httpx.HTTPError, TimeoutError) as error:  # most succeed at once, and stamina costs 0.1 ms a time
                return await self._tried_again(url, wanted, error)
        except httpx.HTTPStatusError as error:
            raise Rejected(Reason.HTTP_ERROR, describe(error), transient=is_transient(error.response)) from None
        except ForbiddenAddress as error:
            raise Rejected(Reason.FORBIDDEN_ADDRESS, str(error)) from None
        except _PERMANENT as error:
            raise Rejected(Reason.FETCH_FAILED, describe(error)) from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise Rejected(Reason.FETCH_FAILED, describe(error), transient=True) from None

    async def _tried_again(self, url: str, wanted: _Wanted, failed: Exception) -> Download:
        """What a first try that ``failed`` may still come to."""
        async for attempt in attempts(self._settings.retries):
            with attempt:
                if attempt.num == 1:
                    raise failed
                return await self._follow(url, wanted)
        raise AssertionError("stamina either returns or raises")

    async def _follow(self, url: str, wanted: _Wanted) -> Download:
        """One try: the URL and its redirects, each hop checked like the first."""
        seen: set[str] = set()
        target = RequestUrl.of(url)
        for _ in range(MAX_REDIRECTS + 1):
            if target.url in seen:
                raise Rejected(Reason.TOO_MANY_REDIRECTS, "the redirects go in a circle")
            seen.add(target.url)
            answer = await self._hop(target, wanted)
            if isinstance(answer, Download):
                return answer
            target = target.join(answer)
        raise Rejected(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _hop(self, target: RequestUrl, wanted: _Wanted) -> Download | str:
        """One request: the body, or where the answer redirects to."""
        host = self._hosts.get(target.origin) or self._hosts.setdefault(target.origin, self._host(target.origin))
        reserved = None
        if wanted.heed and not host.own:
            if self._settings.respect_robots and (delay := await self._robots.check(target)):
                host.limit.slow_down(delay)
            reserved = await self._reservations.check(target) if self._settings.respect_opt_outs else None
        transport = await self._transport_for(target.origin, host.own)
        async with host.limit.request(MAX_WAIT, self.slots), asyncio.timeout(self._settings.timeout):
            return await self._request(transport, target, wanted, host.limit, reserved)

    def _host(self, origin: Origin) -> _Host:
        own = self._guard.is_own(origin.host, origin.port)
        rate = self._settings.per_host_rate or (None if own else DEFAULT_RATE)
        limit = host_limit(f"{origin.host}:{origin.port}", self._settings.per_host_concurrency, rate)
        return _Host(limit, own)

    async def _request(
        self, transport: Transport, target: RequestUrl, wanted: _Wanted, limit: HostLimit, reserved: str | None
    ) -> Download | str:
        known = wanted.known if wanted.known and wanted.known.version.url == target.url else None
        answer = await transport.send(target, self._headers | known.version.conditions() if known else self._headers)
        try:
            unchanged = known if answer.status == httpx.codes.NOT_MODIFIED else None
            if not (unchanged or 200 <= answer.status < 300):
                return _led_on(answer, target, limit)
            objection = opt_out(answer.headers, reserved)
            if objection and self._settings.respect_opt_outs:
                raise Rejected(Reason.OPTED_OUT, objection)
            if unchanged:
                return _from_before(unchanged, objection, wanted.max_bytes)
            data = await _body(answer, wanted.max_bytes)
            return Download(data=data, opt_out=objection, version=Version.of(target.url, answer.headers))
        finally:
            await answer.aclose()

    async def _read_for_robots(self, url: str) -> tuple[int, bytes]:
        """Status and body of a file that a site writes for robots: 404 for whatever says that there is none."""
        try:
            return 200, (await self._tried(url, _Wanted(max_bytes=ROBOTS_BYTES, heed=False))).data
        except Rejected as refused:
            if refused.transient or refused.reason is Reason.FORBIDDEN_ADDRESS:
                raise
            return 404, b""

    async def _transport_for(self, origin: Origin, own: bool) -> Transport:
        """What connects by itself, or through the environment's proxy for this origin."""
        proxy = self._proxies and (self._proxies.get(origin.scheme) or self._proxies.get("all"))
        if own or not proxy or urllib.request.proxy_bypass(origin.host):
            proxy = None
        else:
            await self._guard.check_name(origin.host, origin.port)
        if proxy not in self._transports:
            limits = httpx.Limits(
                max_connections=None, max_keepalive_connections=2 * per_process(self._settings.concurrency)
            )
            patience = Timeouts(connect=self._settings.connect_timeout, first_byte=self._settings.first_byte_timeout)
            transport: Transport = (
                HttpxTransport(
                    httpx.AsyncHTTPTransport(proxy=proxy, verify=httpx.create_ssl_context(), http2=True, limits=limits),
                    patience,
                )
                if proxy
                else GuardedTransport(self._guard, limits, patience)
            )
            self._stack.push_async_callback(transport.aclose)
            self._transports[proxy] = transport
        return self._transports[proxy]


def _led_on(answer: Response, target: RequestUrl, limit: HostLimit) -> str:
    """Where an answer without a body redirects to. Raises httpx.HTTPStatusError where it does not."""
    response = httpx.Response(
        answer.status,
        headers=list(answer.raw_headers),
        request=httpx.Request("GET", target.url),
        extensions={"reason_phrase": answer.reason.encode("latin-1", "replace")},
    )
    if response.is_error and (wait := retry_after(response)):
        limit.pause(wait)
    if not response.has_redirect_location:
        response.raise_for_status()
    return str(response.headers["Location"])


def _from_before(known: Known, objection: str | None, max_bytes: int) -> Download:
    """What the server says has not changed."""
    data = known.read()
    if data is None:
        raise Rejected(Reason.FETCH_FAILED, "unchanged, but the bytes from before are gone", transient=True)
    if len(data) > max_bytes:
        raise Rejected(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return Download(data=data, opt_out=objection, version=known.version)


async def _body(answer: Response, max_bytes: int) -> bytes:
    too_large = Rejected(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    length = answer.headers.get("Content-Length", "")
    bounded = length.isdecimal() and int(length[:20]) <= max_bytes
    if length.isdecimal() and not bounded:
        raise too_large
    if bounded and "Transfer-Encoding" not in answer.headers:
        body = await answer.read()
    else:
        body = await _read_up_to(answer, max_bytes, too_large)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):  # not asked for; unpacked no further than the limit
        try:
            body = zlib.decompressobj(47).decompress(body, max_bytes + 1)
        except zlib.error as error:
            raise Rejected(Reason.NOT_AN_IMAGE, f"Content-Encoding {encoding} that does not unpack: {error}") from None
    if len(body) > max_bytes:
        raise too_large
    return body


async def _read_up_to(answer: Response, max_bytes: int, too_large: Rejected) -> bytes:
    body = bytearray()
    async for chunk in answer.chunks():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
