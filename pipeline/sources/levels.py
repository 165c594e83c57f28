"""The strictest of what a source says about how safe for work a picture is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from surd.pipeline.untrusted_json import to_text

#: The fields in which galleries state it, the most exact first.
LEVEL_FIELDS = ("nsfwLevel", "nsfw", "level", "browsingLevel")
# As Civitai numbers them: 0 is no level, 1 is PG, 2 PG-13, 4 R, 8 X, 16 XXX, 32 blocked.
_RANKS = {
    "none": 0, "false": 0, "safe": 0, "sfw": 0, "g": 0, "general": 0, "pg": 0, "unlikely": 0, "true": 2, "soft": 2,
    "pg13": 2, "pg-13": 2, "mature": 4, "r": 4, "x": 8, "xxx": 16, "blocked": 32,
}  # fmt: skip
_UNKNOWN_WORD = 3  # a word that no list has is stricter than "safe", and less exact than a known one


def strictest_level(statements: Iterable[Any]) -> str | None:
    """The strictest of several statements (words, numbers, booleans) in lower case; None if there is none.

    A null says nothing: it neither hides a stricter statement nor counts as one. Of equally strict ones the first.
    """
    levels = [text for statement in statements if (text := _level(statement))]
    return max(levels, key=_rank, default=None)


def level_of(item: Mapping[str, Any]) -> str | None:
    """The strictest level that an item of an API states."""
    return strictest_level(item.get(name) for name in LEVEL_FIELDS)


def _level(statement: Any) -> str | None:
    text = str(statement) if isinstance(statement, bool) else to_text(statement)
    return text.strip().lower() or None if text else None


def _rank(level: str) -> float:
    try:
        number = float(level)
    except ValueError:
        return _RANKS.get(level, _UNKNOWN_WORD)
    return 0.0 if number in (0, 1) else number if number > 1 else _UNKNOWN_WORD
