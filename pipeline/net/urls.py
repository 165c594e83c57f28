"""Checks of untrusted URLs, and their text without secrets."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote_plus, urlsplit

from surd.schemas import SurdError

_SECRETS = re.compile(
    r"(?:.*[_-])?(?:token|api[_-]?key|key|secret|password|passwd|auth|authorization|signature|sig)", re.IGNORECASE
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER = re.compile(r"(?<=://)[^/?#@]*@")


def is_http(url: str) -> bool:
    """Whether this is an http(s) URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a broken port or IPv6 address
        return False


def fill_from_environment(url: str) -> str:
    """The URL with every ``${NAME}`` replaced by that environment variable, so that no config has to hold a secret.

    Raises SurdError if a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise SurdError(f"source names the environment variable {name}, which is not set; set it")
        return quote(os.environ[name], safe="")

    return _VARIABLE.sub(value, url)


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
