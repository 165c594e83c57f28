"""Parser of the infotext that the A1111 web UI and its many successors write: prompt, negative prompt, parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline import untrusted_json

_STEPS = re.compile(r"^[ \t]*Steps:[ \t]*\d+.*$", re.MULTILINE)
_NEGATIVE = re.compile(r"^[ \t]*Negative prompt:[ \t]*", re.MULTILINE)
_PARAM = re.compile(r"\s*([A-Za-z][\w \-/.]{0,60}?):\s*")
_MOST_PARAMS = 300  # each that breaks off may cost a look at the whole line; the longest real one has about 80
_SPACE = re.compile(r"\s*(,|\Z)")


@dataclass(frozen=True, kw_only=True)
class Infotext:
    """The content of an A1111 text. ``prompt`` is None if it has only parameters."""

    prompt: str | None
    negative_prompt: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def parse_a1111(text: str) -> Infotext | None:
    """Prompt lines, ``Negative prompt:`` lines, one ``Steps: ...`` line; None if it has neither of the last two."""
    text = text.replace("\r\n", "\n")
    steps = [*_STEPS.finditer(text)]
    body = text[: steps[-1].start()] if steps else text
    prompt, *negatives = _NEGATIVE.split(body, maxsplit=1)
    if not steps and not negatives:
        return None
    return Infotext(
        prompt=prompt.strip() or None,
        negative_prompt=negatives[0].strip() or None if negatives else None,
        params=_params(steps[-1].group()) if steps else {},
    )


def _params(line: str) -> dict[str, Any]:
    """``Steps: 20, Sampler: Euler a, Hashes: {...}`` as a dict; values that are JSON are read as such."""
    params: dict[str, Any] = {}
    position = 0
    for _ in range(_MOST_PARAMS):
        if not (match := _PARAM.match(line, position)):
            break
        value, position = _value(line, match.end())
        params[match.group(1).strip()] = value
    return params


def _value(line: str, start: int) -> tuple[Any, int]:
    """One value, and where the next name begins."""
    if line[start : start + 1] in ('"', "{", "["):
        try:
            value, end = untrusted_json.parse_at(line, start)
        except ValueError:
            pass
        else:
            if after := _SPACE.match(line, end):
                return value, after.end()
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    return line[start:end].strip(), end + 1
