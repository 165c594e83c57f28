"""Turns what a site says to machines (robots.txt, X-Robots-Tag, TDM-Reservation, tdmrep.json) into may and may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from multidict import MultiMapping
from protego import Protego

from surd.pipeline import untrusted_json
from surd.pipeline.net.request_url import Origin, RequestUrl
from surd.pipeline.rejection import Rejected
from surd.schemas import Reason

T = TypeVar("T")
Read = Callable[[str], Awaitable[tuple[int, bytes]]]
ROBOTS_BYTES = 512_000  # of robots.txt, more than RFC 9309 asks a crawler to read
_TOKEN = "surd"  # what robots.txt calls us
_NO = ("noai", "noimageai")
_DIRECTIVES_WITH_VALUE = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}


def opt_out(headers: MultiMapping[str], reserved: str | None = None) -> str | None:
    """The header by which a site keeps its images out of training data, as it stands there, or None.

    ``X-Robots-Tag: noai`` and ``noimageai``, for all robots or for us by name, and the TDM Reservation Protocol's
    ``TDM-Reservation: 1`` (W3C TDMRep). ``reserved`` is what the site's tdmrep.json says: the header goes before it.
    """
    stated = headers.get("TDM-Reservation", "").strip()
    if stated == "1":
        return "TDM-Reservation: 1"
    for value in headers.getall("X-Robots-Tag", ()):
        robot = ""
        for part in value.lower().split(","):
            name, colon, rest = part.strip().partition(":")
            if colon and name.strip() not in _DIRECTIVES_WITH_VALUE:
                robot, part = name.strip(), rest
            if part.strip() in _NO and robot in ("", "*", _TOKEN):
                return f"X-Robots-Tag: {value}".encode("utf-8", "replace").decode()[:200]
    return None if stated == "0" else reserved


def check_robots(rules: Protego, url: str) -> float | None:
    """Seconds that the site wants between requests, or None. Raises Rejected when it does not want this one."""
    if not rules.can_fetch(url, _TOKEN):
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.netloc}/robots.txt disallows {parts.path}"
        raise Rejected(Reason.ROBOTS_DISALLOWED, where[:300])
    delay = rules.crawl_delay(_TOKEN)
    return None if delay is None else float(delay)


class Robots:
    """What the robots.txt of each origin allows, asked for once. ``read`` gets a file: its status and bytes."""

    def __init__(self, read: Read) -> None:
        self._rules = _OncePerOrigin("/robots.txt", lambda url: _load_robots(read, url))

    async def check(self, target: RequestUrl) -> float | None:
        """Seconds that the site wants between requests, or None. Raises Rejected when it does not want this one.

        As RFC 9309 says: no robots.txt (4xx) allows everything; one that cannot be read now allows nothing, for now.
        """
        rules = await self._rules.of(target.origin)
        return check_robots(rules, target.url) if rules else None


class Reservations:
    """What the tdmrep.json of each origin reserves, asked for once. ``read`` gets a file: its status and bytes."""

    def __init__(self, read: Read) -> None:
        self._rules = _OncePerOrigin("/.well-known/tdmrep.json", lambda url: _load_tdmrep(read, url))

    async def check(self, target: RequestUrl) -> str | None:
        """The rule by which the site reserves this URL from text and data mining, or None.

        Of its rules the first that matches counts. A file that is absent, unreadable or no list of rules reserves
        nothing. https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/
        """
        rules = await self._rules.of(target.origin)
        if not rules:
            return None
        parts = urlsplit(target.url)
        path = unquote(parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for rule in rules:
            if _matches(rule.location, path):
                return f"tdmrep.json: {rule.location} is reserved"[:200] if rule.reserved else None
        return None


class _OncePerOrigin(Generic[T]):
    """A file at a fixed path of each origin, loaded by the first who needs it; the others wait for that."""

    def __init__(self, path: str, load: Callable[[str], Coroutine[Any, Any, T]]) -> None:
        self._path, self._load = path, load
        self._loaded: dict[Origin, asyncio.Future[T]] = {}

    async def of(self, origin: Origin) -> T:
        loaded = self._loaded.get(origin)
        if loaded is None:
            loaded = self._loaded[origin] = asyncio.ensure_future(self._load(origin.text + self._path))
        return loaded.result() if loaded.done() else await asyncio.shield(loaded)


async def _load_robots(read: Read, url: str) -> Protego | None:
    """The rules, or None where there are none."""
    try:
        status, body = await read(url)
    except Rejected as refused:
        if refused.reason is Reason.ROBOTS_DISALLOWED or not refused.transient:
            raise
        raise Rejected(refused.reason, f"robots.txt cannot be read: {refused.detail}", transient=True) from None
    text = body[:ROBOTS_BYTES].decode("utf-8", "replace") if status < 300 else ""
    return Protego.parse(text) if text.strip() else None


class _Rule(NamedTuple):
    location: str
    reserved: bool


async def _load_tdmrep(read: Read, url: str) -> list[_Rule]:
    try:
        status, body = await read(url)
        rules = untrusted_json.parse(body) if status < 300 else []
    except (Rejected, ValueError):
        return []
    return [
        _Rule(unquote(location), rule.get("tdm-reservation") in (1, "1"))
        for rule in (rules if isinstance(rules, list) else [])
        if isinstance(rule, dict) and isinstance(location := rule.get("location"), str)
    ]


def _matches(location: str, path: str) -> bool:
    """Whether a path begins as robots.txt writes it: ``*`` for anything, ``$`` for the end. Takes linear time."""
    first, *rest = location.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at, last = len(first), rest.pop() if rest and location.endswith("$") else None
    for part in rest:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= at
    return not location.endswith("$") or at == len(path)
