"""Turns a request to a source's API into its JSON answer: address checked, robots.txt heard, tried again, bounded."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
from protego import Protego

from surd.pipeline import untrusted_json
from surd.pipeline.net.address_guard import AddressGuard, GuardedSyncBackend
from surd.pipeline.net.retry import MAX_WAIT, attempts, client_settings, describe, is_transient
from surd.pipeline.net.robots import ROBOTS_BYTES, check_robots
from surd.pipeline.rejection import Rejected
from surd.schemas import BuildConfig, Reason

T = TypeVar("T")
MAX_ANSWER = 100_000_000  # bytes of one page of records


class ApiClient:
    """Asks one API, at an address that the user named. ``crawling``: it is not documented for programs, so that its
    site's robots.txt speaks of us. A proxy of the environment is used, and then only names can be checked."""

    def __init__(self, api: str, settings: BuildConfig, *, crawling: bool) -> None:
        parts = urlsplit(api)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._settings = settings.collect
        self._guard = AddressGuard(settings.fetch.allow_hosts, (host, port))
        own = self._guard.is_own(host, port)
        proxies = urllib.request.getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        self._client = self._new_client(None if own or urllib.request.proxy_bypass(host) else proxy)
        self._hears_robots = crawling and settings.collect.respect_robots and not own
        self._rules: Protego | None = None
        self._interval = self._next_request = 0.0
        self.headers = self._client.headers

    def close(self) -> None:
        self._client.close()

    def ask(self, method: str, url: str, **request: Any) -> Any:
        """The JSON answer to one request, with retries.

        Raises httpx's errors, ValueError where it is no JSON, ForbiddenAddress, and Rejected by robots.txt.
        """
        if self._hears_robots:
            self._hear_robots(url)
        return self._tried(lambda: untrusted_json.parse(self._body(method, url, MAX_ANSWER, **request)))

    def _tried(self, attempted: Callable[[], T]) -> T:
        """What should be JSON and is not counts as a failed try: a busy site answers with a page of excuse."""
        for attempt in attempts(self._settings.retries):
            with attempt:
                return attempted()
        raise AssertionError("stamina either returns or raises")

    def _body(self, method: str, url: str, most: int, **request: Any) -> bytes:
        """One try, in ``collect.timeout`` seconds from its first byte to its last."""
        time.sleep(max(0.0, min(MAX_WAIT, self._next_request - time.monotonic())))
        self._next_request = time.monotonic() + self._interval
        deadline = time.monotonic() + self._settings.timeout
        body = bytearray()
        with self._client.stream(method, url, **request) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > most:
                    raise ValueError(f"more than {most} bytes")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("no end in time", request=response.request)
        return bytes(body)

    def _hear_robots(self, url: str) -> None:
        if self._rules is None:
            self._rules = Protego.parse(self._read_robots(urljoin(url, "/robots.txt")))
        self._interval = max(self._interval, check_robots(self._rules, url) or 0.0)

    def _read_robots(self, url: str) -> str:
        """The text of a robots.txt; empty where there is none. Raises Rejected while it cannot be read (RFC 9309)."""
        try:
            return self._tried(lambda: self._body("GET", url, ROBOTS_BYTES)).decode("utf-8", "replace")
        except ValueError:  # longer than anybody need read
            return ""
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and not is_transient(error.response):
                return ""
            raise Rejected(
                Reason.FETCH_FAILED, f"robots.txt cannot be read: {describe(error)}", transient=True
            ) from None

    def _new_client(self, proxy: str | None) -> httpx.Client:
        asked = client_settings(self._settings.timeout) | {"mounts": None, "trust_env": False}
        if proxy:
            hooks = {"request": [self._check_name]}
            return httpx.Client(proxy=proxy, verify=httpx.create_ssl_context(), event_hooks=hooks, **asked)
        return httpx.Client(transport=_GuardedTransport(self._guard), **asked)

    def _check_name(self, request: httpx.Request) -> None:
        """Before every hop through a proxy."""
        self._guard.check_name_now(request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80))


class _GuardedTransport(httpx.HTTPTransport):
    """httpx's transport with connections opened by GuardedSyncBackend: httpx itself has no place to hand one over."""

    def __init__(self, guard: AddressGuard) -> None:
        super().__init__()
        self._pool: Any = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=GuardedSyncBackend(guard)
        )
