"""Turns addresses that people and strangers write into a verdict (is it one that may be asked for?) and a safe text."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_plus, urlsplit

_SECRETS = re.compile(
    r"(?:.*[_-])?(?:token|api[_-]?key|key|secret|password|passwd|auth|authorization|signature|sig)", re.IGNORECASE
)
_ORIGIN = re.compile(r"[^/?#]*//[^/?#]*")
_USER = re.compile(r"(?<=://)[^/?#@]*@")


def is_http(url: str) -> bool:
    """Whether it is an http(s) URL with a host."""
    origin = _ORIGIN.match(url)
    return origin is not None and _is_http(origin.group())


@lru_cache(4096)  # a list of many images names few hosts, and urlsplit takes 0.05 ms
def _is_http(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a broken port or IPv6 address
        return False


def without_secrets(url: str) -> str:
    """The URL, or source string, without user and password and without parameters that hold a token or a key.

    What holds none stays as it is, letter for letter.
    """
    head, mark, query = _USER.sub("", url).partition("?")
    if not mark:
        return head
    query, hash_, fragment = query.partition("#")
    kept = [pair for pair in query.split("&") if not _SECRETS.fullmatch(unquote_plus(pair.partition("=")[0]))]
    return head + (mark + "&".join(kept) if kept else "") + hash_ + fragment
