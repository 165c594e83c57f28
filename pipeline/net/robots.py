"""Crawling rules and opt-outs of a site: robots.txt, X-Robots-Tag, TDM-Reservation, tdmrep.json."""

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
ROBOTS_BYTES = 512_000  # of robots.txt; RFC 9309 asks a crawler to read 500 kibibytes
_TOKEN = "surd"  # our name in robots.txt
_OPT_OUTS = ("noai", "noimageai")
_DIRECTIVES_WITH_VALUE = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}


def opt_out(headers: MultiMapping[str], reserved: str | None = None) -> str | None:
    """The header that reserves a site's images from training data, word for word, or None.

    ``X-Robots-Tag: noai`` and ``noimageai``, for all robots or for us by name, and the TDM Reservation Protocol's
    ``TDM-Reservation: 1`` (W3C TDMRep). ``reserved``: the rule of the site's tdmrep.json, which the header overrides.
    """
    reservation = headers.get("TDM-Reservation", "").strip()
    if reservation == "1":
        return "TDM-Reservation: 1"
    for value in headers.getall("X-Robots-Tag", ()):
        robot = ""
        for part in value.lower().split(","):
            name, colon, rest = part.strip().partition(":")
            if colon and name.strip() not in _DIRECTIVES_WITH_VALUE:
                robot, part = name.strip(), rest
            if part.strip() in _OPT_OUTS and robot in ("", "*", _TOKEN):
                return f"X-Robots-Tag: {value}".encode("utf-8", "replace").decode()[:200]
    return None if reservation == "0" else reserved


def check_robots(rules: Protego, url: str) -> float | None:
    """The Crawl-delay in seconds, or None. Raises Rejected if robots.txt disallows the URL."""
    if not rules.can_fetch(url, _TOKEN):
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.netloc}/robots.txt disallows {parts.path}"
        raise Rejected(Reason.ROBOTS_DISALLOWED, where[:300])
    delay = rules.crawl_delay(_TOKEN)
    return None if delay is None else float(delay)


class Robots:
    """The robots.txt of each origin, requested once. ``read`` requests a file and returns its status and bytes."""

    def __init__(self, read: Read) -> None:
        self._rules = _PerOriginCache("/robots.txt", lambda url: _load_robots(read, url))

    async def check(self, url: RequestUrl) -> float | None:
        """The Crawl-delay in seconds, or None. Raises Rejected if robots.txt disallows the URL.

        By RFC 9309 a missing robots.txt (4xx) allows everything; one that cannot be read allows nothing, for now.
        """
        rules = await self._rules.get(url.origin)
        return check_robots(rules, url.text) if rules else None


class Reservations:
    """The tdmrep.json of each origin, requested once. ``read`` requests a file and returns its status and bytes."""

    def __init__(self, read: Read) -> None:
        self._rules = _PerOriginCache("/.well-known/tdmrep.json", lambda url: _load_tdmrep(read, url))

    async def check(self, url: RequestUrl) -> str | None:
        """The rule by which the site reserves this URL from text and data mining, or None.

        The first rule that matches counts. A file that is missing, unreadable or not a list of rules reserves nothing.
        https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/
        """
        rules = await self._rules.get(url.origin)
        if not rules:
            return None
        parts = urlsplit(url.text)
        path = unquote(parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for rule in rules:
            if _matches(rule.location, path):
                return f"tdmrep.json: {rule.location} is reserved"[:200] if rule.reserved else None
        return None


class _PerOriginCache(Generic[T]):
    """A file at a fixed path of each origin, loaded by the first request that needs it; the others wait for it."""

    def __init__(self, path: str, load: Callable[[str], Coroutine[Any, Any, T]]) -> None:
        self._path, self._load = path, load
        self._loaded: dict[Origin, asyncio.Future[T]] = {}

    async def get(self, origin: Origin) -> T:
        loaded = self._loaded.get(origin)
        if loaded is None:
            loaded = self._loaded[origin] = asyncio.ensure_future(self._load(origin.text + self._path))
        return loaded.result() if loaded.done() else await asyncio.shield(loaded)


async def _load_robots(read: Read, url: str) -> Protego | None:
    """The rules, or None if there are none."""
    try:
        status, body = await read(url)
    except Rejected as rejected:
        if rejected.reason is Reason.ROBOTS_DISALLOWED or not rejected.transient:
            raise
        raise Rejected(rejected.reason, f"robots.txt cannot be read: {rejected.detail}", transient=True) from None
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
    """Whether a path matches a prefix as in robots.txt: ``*`` for anything, ``$`` for the end. Takes linear time."""
    first, *rest = location.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at, last = len(first), rest.pop() if rest and location.endswith("$") else None
    for part in rest:
        start = path.find(part, at)
        if start < 0:
            return False
        at = start + len(part)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= at
    return not location.endswith("$") or at == len(path)
