"""Parsing of untrusted JSON and text into values that can be stored: no NaN, no lone surrogates, bounded depth and size
of numbers."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 100
MAX_DIGITS = 300  # of a whole number: what has more is no seed, overflows a float, and from 4,300 on cannot be printed
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
#: What a terminal obeys (ECMA-48): colours and cursor moves, titles and links up to their end, single commands.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|[\]PX^_][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|[@-Z\\-_])")


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; NaN, infinities and whole numbers of more than 300 digits become null.

    Raises ValueError, and nothing else, if it is not JSON or is nested deeper than 100.
    """
    try:
        value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _checked(value)


def parse_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that starts at ``start``, and the position of its end; otherwise as ``parse``."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _checked(value), end


def dump(value: Any) -> str:
    """Compact JSON with sorted keys that is valid UTF-8 and strict JSON. ``value`` comes from ``parse``."""
    return to_text(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)) or ""


def to_text(value: Any) -> str | None:
    """A string in a form that can be stored (lone surrogates replaced, NULs dropped), a number as text, else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def without_controls(text: str) -> str:
    """Scraped prose as it can be shown: without a terminal's control sequences; other control characters are spaces.

    Tabs and line ends stay, and so do the control characters beyond ASCII, by which wrongly decoded text is repaired.
    Lone surrogates become question marks, NULs go.
    """
    text = to_text(text) or ""
    return _CONTROL.sub(" ", _SEQUENCE.sub("", text)) if _CONTROL.search(text) else text


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else None


_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)


def _checked(value: Any) -> Any:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError("nested too deeply")
