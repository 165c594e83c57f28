"""Parser of what Midjourney and Mochi Diffusion write as a picture's description: the prompt and its parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_JOB = re.compile(r"\s{0,9}Job ID: ?(?P<job>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s{0,9}\Z", re.IGNORECASE)
_JOB_LENGTH = 80
_FLAG = re.compile(r"(?<!\S)(?:--|[\u2013\u2014])(?P<name>[a-zA-Z]{1,20})(?=\s|\Z)")
#: Flags with the values that they can have. Two of them at the end of a text are Midjourney's even without a job.
_VALUES = {
    **dict.fromkeys(("ar", "aspect"), re.compile(r"[0-9.]{1,6}:[0-9.]{1,6}")),
    **dict.fromkeys(("v", "version", "niji"), re.compile(r"[0-9](?:\.[0-9])?")),
    **dict.fromkeys(("s", "stylize", "c", "chaos", "w", "weird", "stop", "q", "quality"), re.compile(r"[0-9.]{1,5}")),
    "style": re.compile(r"[\w-]{1,40}"),
}
_LEAST_FLAGS = 2
_MOST_FLAGS = 50
_MOCHI = (
    "Metadata Version|Date|Include in Image|Exclude from Image|Model|Size|Quality|Steps|Guidance Scale|Seed|Scheduler"
    "|ML Compute Unit|Starting Image|ControlNet Image|Input Images|Upscaler|Generator"
)
_MOCHI_FIELD = re.compile(rf"(?:\A|; |\n)(?P<key>{_MOCHI}):[ ]?")
_LEAST_FIELDS = 3
_ESCAPE = re.compile(r"\\([\\nr])")
_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of a description. ``prompt`` is None if it has only parameters."""

    tool: str
    prompt: str | None
    negative_prompt: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def parse_description(text: str) -> Description | None:
    """What a description says of how its picture was made; None if it is neither tool's. In linear time."""
    return _mochi(text) if "Include in Image:" in text else _midjourney(text)


def _midjourney(text: str) -> Description | None:
    """``a red fox --ar 3:2 --v 6.1 Job ID: 01234567-...``; the flags are parameters, ``--no`` the negative prompt."""
    job = _JOB.search(text[-_JOB_LENGTH:])
    if not job and "--" not in text and "\u2014" not in text:
        return None
    body = text[: len(text) - len(text[-_JOB_LENGTH:]) + job.start()] if job else text
    flags = [*_FLAG.finditer(body)]
    if not job and not _are_flags(body, flags):
        return None
    params: dict[str, Any] = {}
    negative = ""
    for flag, following in zip(flags[:_MOST_FLAGS], [*flags[1:], None], strict=False):
        value = body[flag.end() : following.start() if following else len(body)].strip()
        if flag["name"].lower() == "no":
            negative = ", ".join(filter(None, (negative, value)))
        else:
            params[flag["name"]] = value or True
    if job:
        params["Job ID"] = job["job"]
    prompt = body[: flags[0].start()] if flags else body
    return Description(
        tool="Midjourney", prompt=prompt.strip() or None, negative_prompt=negative or None, params=params
    )


def _are_flags(body: str, flags: list[re.Match[str]]) -> bool:
    """Whether the text ends in Midjourney's flags, each with a value that it can have."""
    if not _LEAST_FLAGS <= len(flags) <= _MOST_FLAGS:
        return False
    ends = [flag.start() for flag in flags[1:]] + [len(body)]
    known = 0
    for flag, end in zip(flags, ends, strict=True):
        values = _VALUES.get(flag["name"].lower())
        if values is None:
            continue
        if not values.fullmatch(body[flag.end() : end].strip()):
            return False
        known += 1
    return known >= _LEAST_FLAGS


def _mochi(text: str) -> Description | None:
    """``Include in Image: a fox; Exclude from Image: blurry; Model: ...``, or with a line and escapes for each."""
    text = text.replace("\r\n", "\n").strip()
    fields = [*_MOCHI_FIELD.finditer(text)]
    if len(fields) < _LEAST_FIELDS or fields[0].start():
        return None
    escaped = fields[0]["key"] == "Metadata Version"
    params: dict[str, Any] = {}
    for field_, following in zip(fields, [*fields[1:], None], strict=True):
        value = text[field_.end() : following.start() if following else len(text)].strip()
        if escaped:
            value = _ESCAPE.sub(lambda match: _ESCAPED[match[1]], value)
        params.setdefault(field_["key"], value)
    prompt, negative = params.pop("Include in Image", ""), params.pop("Exclude from Image", "")
    return Description(tool="Mochi Diffusion", prompt=prompt or None, negative_prompt=negative or None, params=params)
