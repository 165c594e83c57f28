"""Checks of untrusted URLs, and their text without secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus, urlsplit

_SECRETS = re.compile(
    r"(?:.*[_-])?(?:token|api[_-]?key|key|secret|password|passwd|auth|authorization|signature|sig)", re.IGNORECASE
)
_USER = re.compile(r"(?<=://)[^/?#@]*@")


def is_http(url: str) -> bool:
    """Whether this is an http(s) URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a broken port or IPv6 address
        return False


def redact_secrets(url: str) -> str:
    """The URL or source string without user, password and query parameters that hold a token or key.

    A text without any of these is returned unchanged.
    """
    head, mark, query = _USER.sub("", url).partition("?")
    if not mark:
        return head
    query, hash_, fragment = query.partition("#")
    kept = [pair for pair in query.split("&") if not _SECRETS.fullmatch(unquote_plus(pair.partition("=")[0]))]
    return head + (mark + "&".join(kept) if kept else "") + hash_ + fragment
