"""Client settings, User-Agent, and the retry policy: which failures are tried again, and after how long."""

from __future__ import annotations

import importlib.metadata
import json
import random
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx
import stamina

MAX_WAIT = 60.0  # seconds: the longest Retry-After that is waited for; after a longer one the next run tries again
MAX_REDIRECTS = 5
_THIS_MACHINE = ("all://127.0.0.1", "all://localhost")
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 520, 522, 524}


class UnreadableResponse(httpx.ProtocolError):
    """A response that is no HTTP by any reading: it would be the same at the next try."""


def client_settings(timeout: float) -> dict[str, Any]:
    """Keyword arguments of httpx clients, sync and async. ``timeout``: seconds for each of connect, read, write."""
    return {
        "headers": {"User-Agent": user_agent()},
        "follow_redirects": True,
        "max_redirects": MAX_REDIRECTS,
        "timeout": httpx.Timeout(timeout),
        "mounts": dict.fromkeys(_THIS_MACHINE),  # no proxy of the environment could reach this machine
    }


def user_agent() -> str:
    """The package's name and version, what it does, and its project page if the package metadata has one."""
    try:
        package = importlib.metadata.metadata("surd")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "surd/0 (dataset builder; collects image-prompt pairs)"
    pages = [line.partition(",")[2].strip() for line in package.get_all("Project-URL") or []]
    page = f"; +{pages[0]}" if pages else ""
    return f"surd/{package['Version']} (dataset builder; collects image-prompt pairs{page})"


def is_transient(response: httpx.Response) -> bool:
    """Whether an error may pass: 408, 425, 429 and all 5xx."""
    return response.status_code in _TRANSIENT_STATUS or response.status_code >= 500


class Attempts(Protocol):
    """The tries of one request, as ``stamina.Attempt``: for ``for`` and for ``async for``."""

    def __iter__(self) -> Iterator[stamina.Attempt]: ...

    def __aiter__(self) -> AsyncIterator[stamina.Attempt]: ...


def attempts(retries: int) -> Attempts:
    """One try and up to ``retries`` more, after failures that ``retry_wait`` accepts, 0.5 s to 20 s apart."""
    return stamina.retry_context(on=retry_wait, attempts=retries + 1, timeout=None, wait_initial=0.5, wait_max=20)


def retry_wait(error: Exception) -> bool | float:
    """Whether to try again after a failure: a back-off hook for stamina, which may also return the seconds to wait.

    True of network failures, time-outs, transient statuses, and bodies that are not JSON where JSON was expected.
    """
    if isinstance(error, httpx.HTTPStatusError):
        if error.response.status_code not in _TRANSIENT_STATUS:
            return False
        wait = retry_after(error.response)
        return True if wait is None else wait <= MAX_WAIT and wait + random.uniform(0, 0.1 * wait)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | UnreadableResponse):
        return False
    return isinstance(error, httpx.TransportError | TimeoutError | json.JSONDecodeError)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait by the Retry-After header, which holds a number or a date; None if it is missing or invalid."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        due, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers["Date"])
        return max(0.0, (due - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def describe(error: Exception) -> str:
    """A failure in a few words for a person."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    if isinstance(error, httpx.TooManyRedirects):
        return f"more than {MAX_REDIRECTS} redirects"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "no answer in time"
    if isinstance(error, json.JSONDecodeError):
        return "the answer is not JSON"
    return f"{error.__class__.__name__}: {error}".rstrip(": ")
