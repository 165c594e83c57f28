"""Turns what a site says to machines (robots.txt, X-Robots-Tag, TDM-Reservation) into may and may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
from protego import Protego

from pipeline.refusal import Refused
from schemas import Reason

ROBOTS_BYTES = 512_000  # of robots.txt, more than RFC 9309 asks a crawler to read
_TOKEN = "surd"  # what robots.txt calls us
_NO = ("noai", "noimageai")
_DIRECTIVES_WITH_VALUE = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}


def opt_out(headers: httpx.Headers) -> str | None:
    """The header by which a site keeps its images out of training data, as it stands there, or None.

    ``X-Robots-Tag: noai`` and ``noimageai``, for all robots or for us by name, and the TDM Reservation Protocol's
    ``TDM-Reservation: 1`` (W3C TDMRep).
    """
    if headers.get("TDM-Reservation", "").strip() == "1":
        return "TDM-Reservation: 1"
    for value in headers.get_list("X-Robots-Tag"):
        robot = ""
        for part in value.lower().split(","):
            name, colon, rest = part.strip().partition(":")
            if colon and name.strip() not in _DIRECTIVES_WITH_VALUE:
                robot, part = name.strip(), rest
            if part.strip() in _NO and robot in ("", "*", _TOKEN):
                return f"X-Robots-Tag: {value}"[:200]
    return None


class Robots:
    """What the robots.txt of each origin allows, asked for once. ``read`` gets a robots.txt: its status and bytes."""

    def __init__(self, read: Callable[[str], Awaitable[tuple[int, bytes]]]) -> None:
        self._read = read
        self._rules: dict[str, asyncio.Future[Protego]] = {}

    async def check(self, url: str) -> float | None:
        """Seconds that the site wants between requests, or None. Raises Refused when it does not want this one.

        As RFC 9309 says: no robots.txt (4xx) allows everything; one that cannot be read now allows nothing, for now.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._load(f"{origin}/robots.txt"))
        rules = await asyncio.shield(self._rules[origin])
        if not rules.can_fetch(url, _TOKEN):
            raise Refused(Reason.ROBOTS_DISALLOWED, f"{origin}/robots.txt disallows {parts.path}"[:300])
        delay = rules.crawl_delay(_TOKEN)
        return None if delay is None else float(delay)

    async def _load(self, url: str) -> Protego:
        try:
            status, body = await self._read(url)
        except Refused as refused:
            if refused.reason is Reason.ROBOTS_DISALLOWED or not refused.transient:
                raise
            raise Refused(refused.reason, f"robots.txt cannot be read: {refused.detail}", transient=True) from None
        text = body[:ROBOTS_BYTES].decode("utf-8", "replace") if status < 300 else ""
        return Protego.parse(text)
