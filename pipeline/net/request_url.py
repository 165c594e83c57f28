"""The normal form of an http(s) URL, and its origin."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from surd.pipeline.rejection import Rejected
from surd.schemas import Reason

#: An origin, and a path and query that httpx (which takes 0.1 ms for a URL) would not change.
_PLAIN = re.compile(
    r"(https?://[a-z0-9.:-]+)/(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*(?:\?(?:[\w.~!$&()*+,;=:@/?-]|%[0-9A-F]{2})*)?",
    re.ASCII,
)


class Origin(NamedTuple):
    """``text``: scheme, host and port as they stand in a URL. ``host`` has no dot at its end."""

    text: str
    scheme: str
    host: str
    port: int


class RequestUrl(NamedTuple):
    """The URL of a request. ``text``: in normal form, without a fragment."""

    text: str
    origin: Origin

    @classmethod
    def of(cls, url: str) -> RequestUrl:
        """Raises httpx.InvalidURL, and Rejected if the URL is not http(s) or has no host."""
        plain = _PLAIN.fullmatch(url)
        if plain and "/." not in url and (origin := _plain_origin(plain[1])):
            return cls(url, origin)
        parsed = httpx.URL(url).copy_with(fragment=None)
        if parsed.scheme not in ("http", "https") or not parsed.host.strip("."):
            raise Rejected(Reason.FORBIDDEN_ADDRESS, f"not an http(s) URL: {parsed}"[:300])
        parts = urlsplit(str(parsed))
        return cls(str(parsed), _origin(f"{parts.scheme}://{parts.netloc}"))

    def join(self, location: str) -> RequestUrl:
        """The target of a redirect."""
        return RequestUrl.of(str(httpx.URL(self.text).join(location)))


@lru_cache(4096)
def _plain_origin(text: str) -> Origin | None:
    """The origin, or None if its text is not in normal form."""
    url = httpx.URL(f"{text}/")
    return _origin(text) if str(url) == f"{text}/" and url.host.strip(".") else None


def _origin(text: str) -> Origin:
    parts = urlsplit(text)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:  # httpx accepts any number
        raise httpx.InvalidURL(f"{text}: {error}") from None
    return Origin(text, parts.scheme, (parts.hostname or "").rstrip("."), port)
