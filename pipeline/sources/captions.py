"""The prompt in a cell of a table: a text, a list of captions, or an object that holds one."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from surd.pipeline import untrusted_json
from surd.pipeline.untrusted_json import to_text

MAX_CAPTIONS = 50  # of one cell that are kept
_KEYS = ("prompt", "caption", "text", "raw", "value")  # under which a list of objects holds its captions
_MAX_WRITTEN = 100_000  # characters of a list that is written into a cell of text
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r"}
_QUOTED = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*(,?)""", re.DOTALL)


class Captions(NamedTuple):
    """The first caption of a cell, the further ones, and why there is none."""

    first: str | None = None
    further: tuple[str, ...] = ()
    fault: str | None = None


def captions_of(value: Any) -> Captions:
    """The captions in a cell. Of an object the one text under a usual key; with several it is not known which."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = _written_list(value.strip()) or value
    if isinstance(value, list):
        texts = [text for entry in value[:MAX_CAPTIONS] if (text := captions_of(entry).first)]
        if texts:
            return Captions(texts[0], tuple(texts[1:]))
        return Captions(fault="a list without a text" if value else None)
    if isinstance(value, dict):
        texts = [text for key in _KEYS if (text := _text(value.get(key)))]
        if len(texts) == 1:
            return Captions(texts[0])
        return Captions(fault=f"an object with the fields {', '.join(str(key) for key in value)[:200] or 'none'}")
    if isinstance(value, bytes):
        try:
            return Captions(_text(value.decode()))
        except UnicodeDecodeError:
            return Captions(fault="bytes that are not UTF-8")
    return Captions(_text(value))


def _text(value: Any) -> str | None:
    text = to_text(value)
    return text if text and text.strip() else None


def _written_list(cell: str) -> list[str] | None:
    """The texts of a list that is written in a cell as JSON, Python or numpy writes it; None if it is no such list."""
    if not cell.endswith("]") or len(cell) > _MAX_WRITTEN or cell[1:].lstrip()[:1] not in ("'", '"'):
        return None
    try:
        value = untrusted_json.parse(cell)
    except ValueError:
        return _quoted_texts(cell)
    return value if isinstance(value, list) and all(isinstance(entry, str) for entry in value) else None


def _quoted_texts(cell: str) -> list[str] | None:
    """``['a', "b"]``, and ``['a' 'b']`` of numpy, which Python itself would read as one text."""
    texts, at, end = [], 1, len(cell) - 1
    while at < end:
        match = _QUOTED.match(cell, at, end)
        if match is None:
            return None
        texts.append(_ESCAPE.sub(_unescaped, match[1][1:-1]))
        at = match.end()
    return texts


def _unescaped(escape: re.Match[str]) -> str:
    letter = escape[1]
    return chr(int(letter[1:], 16)) if len(letter) > 1 else _LETTERS.get(letter, letter)
