"""Client of a source's JSON API: checks the address and robots.txt, retries, limits size and time."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
from protego import Protego

from surd.pipeline import untrusted_json
from surd.pipeline.net.address_guard import AddressGuard
from surd.pipeline.net.httpcore_transport import HttpcoreTransport
from surd.pipeline.net.log_redaction import redact_log
from surd.pipeline.net.retry import MAX_WAIT, attempts, client_settings, describe, is_transient
from surd.pipeline.net.robots import ROBOTS_BYTES, check_robots
from surd.pipeline.rejection import Rejected
from surd.schemas import BuildConfig, Reason

T = TypeVar("T")
MAX_RESPONSE = 100_000_000  # bytes of one page of records


class ApiClient:
    """Requests to one API, at a URL that the user gave. ``crawling``: the API is not documented for programs, so that
    its site's robots.txt applies. A proxy of the environment is used, and then only names can be checked."""

    def __init__(self, api: str, settings: BuildConfig, *, crawling: bool) -> None:
        redact_log("httpx")
        parts = urlsplit(api)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._settings = settings.collect
        self._guard = AddressGuard(settings.fetch.allow_hosts, (host, port))
        is_trusted = self._guard.is_trusted(host, port)
        proxies = urllib.request.getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        self._client = self._new_client(None if is_trusted or urllib.request.proxy_bypass(host) else proxy)
        self._respects_robots = crawling and settings.collect.respect_robots and not is_trusted
        self._rules: Protego | None = None
        self._interval = self._next_request = 0.0
        self.headers = self._client.headers

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, url: str, **options: Any) -> Any:
        """The JSON response to one request, with retries. ``options``: as of httpx.Client.stream.

        Raises httpx's errors, ValueError if the response is not JSON, ForbiddenAddress, and Rejected by robots.txt.
        """
        if self._respects_robots:
            self._check_robots(url)
        return self._retry(lambda: untrusted_json.parse(self._body(method, url, MAX_RESPONSE, **options)))

    def _retry(self, try_once: Callable[[], T]) -> T:
        """A body that should be JSON and is not counts as a failed try: busy sites send an HTML page of apology."""
        for attempt in attempts(self._settings.retries):
            with attempt:
                return try_once()
        raise AssertionError("stamina either returns or raises")

    def _body(self, method: str, url: str, max_bytes: int, **options: Any) -> bytes:
        """One try, of ``collect.timeout`` seconds from the first byte to the last."""
        time.sleep(max(0.0, min(MAX_WAIT, self._next_request - time.monotonic())))
        self._next_request = time.monotonic() + self._interval
        deadline = time.monotonic() + self._settings.timeout
        body = bytearray()
        with self._client.stream(method, url, **options) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise ValueError(f"more than {max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("no end in time", request=response.request)
        return bytes(body)

    def _check_robots(self, url: str) -> None:
        if self._rules is None:
            self._rules = Protego.parse(self._read_robots(urljoin(url, "/robots.txt")))
        self._interval = max(self._interval, check_robots(self._rules, url) or 0.0)

    def _read_robots(self, url: str) -> str:
        """The text of robots.txt; empty if it is missing. Raises Rejected while it cannot be read (RFC 9309)."""
        try:
            return self._retry(lambda: self._body("GET", url, ROBOTS_BYTES)).decode("utf-8", "replace")
        except ValueError:  # longer than a crawler has to read
            return ""
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and not is_transient(error.response):
                return ""
            raise Rejected(
                Reason.FETCH_FAILED, f"robots.txt cannot be read: {describe(error)}", transient=True
            ) from None

    def _new_client(self, proxy: str | None) -> httpx.Client:
        options = client_settings(self._settings.timeout) | {"mounts": None, "trust_env": False}
        if proxy:
            hooks = {"request": [self._check_name]}
            return httpx.Client(proxy=proxy, verify=httpx.create_ssl_context(), event_hooks=hooks, **options)
        return httpx.Client(transport=HttpcoreTransport(self._guard, httpx.create_ssl_context()), **options)

    def _check_name(self, request: httpx.Request) -> None:
        """Before every hop through a proxy."""
        self._guard.check_name_now(request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80))
