"""Parser of the infotext that the A1111 web UI and its many successors write: prompt, negative prompt, parameters.

Where the parameters begin is decided by ``parameters.py``, by several known keys and never by one word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.metadata.parameters import find_parameters

_NEGATIVE_LINE = re.compile(r"^[ \t]*Negative [Pp]rompt:[ \t]*", re.MULTILINE)
_NEGATIVE = re.compile(r"(?<!\w)Negative [Pp]rompt:[ \t]*")
_PARAM = re.compile(r"\s*([A-Za-z][\w \-/.]{0,60}?):\s*")
_MOST_PARAMS = 300  # the longest real line has about 80
_MOST_BROKEN = 10  # values that begin like JSON and are none: each may cost a look at the whole line
_SPACE = re.compile(r"\s*(,|\Z)")


@dataclass(frozen=True, kw_only=True)
class Infotext:
    """The content of an A1111 text. ``prompt`` is None if it has only parameters."""

    prompt: str | None
    negative_prompt: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def parse_a1111(text: str, *, expected: bool = True) -> Infotext | None:
    """Prompt, ``Negative prompt:`` and one line of parameters; None if it has neither of the last two.

    The parameters may come in any order, and after the prompts on one line. ``expected``: the text lies where tools
    write infotext and nothing else, so that a line ``Steps: 20`` or a negative prompt is enough; elsewhere, as in a
    description, two keys are asked for.
    """
    text = text.replace("\r\n", "\n")
    has_negative = _NEGATIVE.search(text) is not None
    found = find_parameters(text, least=1 if expected or has_negative else 2)
    prompt, *negatives = (_NEGATIVE if found else _NEGATIVE_LINE).split(
        text[: found.start] if found else text, maxsplit=1
    )
    if not (found and (expected or negatives or found.known > 1)) and not (negatives and expected):
        return None
    params: dict[str, Any] = {}
    for line in text[found.start : found.end].splitlines() if found else ():
        params |= _params(line, _MOST_PARAMS - len(params))
    return Infotext(
        prompt=prompt.strip() or None,
        negative_prompt=negatives[0].strip() or None if negatives else None,
        params=params,
    )


def _params(line: str, most: int) -> dict[str, Any]:
    """``Steps: 20, Sampler: Euler a, Hashes: {...}`` as a dict; values that are JSON are read as such."""
    params: dict[str, Any] = {}
    position, name, broken = 0, None, 0
    for _ in range(most):
        if match := _PARAM.match(line, position):
            name = match.group(1).strip()
            params[name], position, is_broken = _value(line, match.end(), may_be_json=broken < _MOST_BROKEN)
            broken += is_broken
        elif name and line[position:].strip():  # "Styles: a, b": the value itself has commas
            more, position = _until_comma(line, position)
            if isinstance(params[name], str):
                params[name] += f", {more}"
        else:
            break
    return params


def _value(line: str, start: int, *, may_be_json: bool) -> tuple[Any, int, bool]:
    """One value, where the next name begins, and whether it begins like JSON and is none."""
    looks_like_json = may_be_json and line[start : start + 1] in ('"', "{", "[")
    if looks_like_json:
        try:
            value, end = untrusted_json.parse_at(line, start)
        except ValueError:
            pass
        else:
            if after := _SPACE.match(line, end):
                return value, after.end(), False
    return *_until_comma(line, start), looks_like_json


def _until_comma(line: str, start: int) -> tuple[str, int]:
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    return line[start:end].strip(), end + 1
