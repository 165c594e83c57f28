"""Licences by the identifiers of the Hugging Face hub: https://huggingface.co/docs/hub/repositories-licenses."""

from __future__ import annotations

import re
from collections.abc import Iterable

_OTHER, _NONE = "other", "unknown"
_HUB = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0", "bsd-3-clause", "openrail", "creativeml-openrail-m",
    "openrail++", "odbl", "odc-by", "pddl", "gfdl", "unlicense", "wtfpl", "gpl-3.0", "cdla-permissive-2.0",
}  # fmt: skip
_ALIASES = {"cc0": "cc0-1.0", "cc-zero": "cc0-1.0", "apache": "apache-2.0", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
_URL = re.compile(r"creativecommons\.org/(?:licenses/(by[a-z-]*)|publicdomain/(zero))/(\d\.\d)", re.I)


def hub_licence(text: str | None) -> str:
    """The hub's identifier of a licence as a source states it; ``other`` if it has none, ``unknown`` of no licence."""
    if not text:
        return _NONE
    if match := _URL.search(text):
        name = "cc0-1.0" if match[2] else f"cc-{match[1].lower()}-{match[3]}"
    else:
        name = re.sub(r"[\s_-]+", "-", text.strip().lower())
        name = _ALIASES.get(name, name)
    return name if name in _HUB else _OTHER


def hub_licences(texts: Iterable[str | None]) -> list[str]:
    """The identifiers of all, each once, sorted; what is other or unknown last."""
    return sorted({hub_licence(text) for text in texts}, key=lambda name: (name in (_OTHER, _NONE), name))


def licence_urls(texts: Iterable[str | None]) -> list[str]:
    """The same for readers that want URLs: those of Creative Commons, else the identifier."""
    return [_url(name) for name in hub_licences(texts)]


def _url(name: str) -> str:
    if name == "cc0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    if match := re.fullmatch(r"cc-([a-z-]+)-(\d\.\d)", name):
        return f"https://creativecommons.org/licenses/{match[1]}/{match[2]}/"
    return name
