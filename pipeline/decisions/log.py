"""``decisions.jsonl`` beside a build: a line a decision, which ``surd build`` never writes and never removes.

A line that a killed writer left half written is left out, and a warning says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Set
from dataclasses import dataclass

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions.lines import Lines
from surd.schemas import Decision
from surd.schemas.decision import DecisionVerdict

log = logging.getLogger(__name__)
DECISIONS = "decisions.jsonl"


@dataclass(frozen=True)
class DecisionLog:
    """All decisions, the oldest first; ``invalid``: how many lines are none, half-written ones among them."""

    decisions: list[Decision]
    invalid: int = 0


def append(build: Build, *decisions: Decision) -> None:
    """Add decisions; they are on the disk, or in the store, when it returns.

    Raises SurdError where the file cannot be written.
    """
    if decisions:
        Lines(build, DECISIONS).append(b"".join(_line(one) + b"\n" for one in decisions))


def read(build: Build) -> dict[str, Decision]:
    """Key -> the last decision about it, in the order in which they were made; without those that were withdrawn.

    What a run obeys may be more than the last: see ``in_force``.
    """
    last: dict[str, Decision] = {}
    for one in read_log(build).decisions:
        last.pop(one.key, None)
        if one.verdict is not DecisionVerdict.WITHDRAW:
            last[one.key] = one
    return last


def read_log(build: Build) -> DecisionLog:
    """Every decision that was ever made. Lines that are not valid are left out, and a warning counts them."""
    decisions, invalid = list[Decision](), list[int]()
    for number, line in enumerate(Lines(build, DECISIONS).read(), 1):
        try:
            decisions.append(Decision.model_validate_json(line))
        except ValidationError:
            invalid.append(number)
    if invalid:
        which = ", ".join(map(str, invalid[:5])) + (" ..." if len(invalid) > 5 else "")
        log.warning(
            "%s: %d line(s) are not valid decisions, as a killed writer leaves them, and are left out (line %s)",
            build.path(DECISIONS), len(invalid), which,
        )  # fmt: skip
    return DecisionLog(decisions, len(invalid))


def fold(build: Build) -> None:
    """Join what was appended on an object store into ``decisions.jsonl``. Only while the build is held."""
    Lines(build, DECISIONS).fold()


def remove(build: Build, keys: Set[str]) -> int:
    """Remove all that was decided about records, and mentions of their keys in the words about others.

    Returns how many lines went. Lines that are not valid go too: what they say is not known. Only while the build is
    held.
    """
    removed = 0

    def without(line: bytes) -> bytes | None:
        nonlocal removed
        try:
            decision = Decision.model_validate_json(line)
        except ValidationError:
            decision = None
        if decision is None or decision.key in keys:
            removed += 1
            return None
        redacted = {name: _redacted(getattr(decision, name), keys) for name in ("reason", "simple")}
        changed = decision.model_copy(update=redacted)
        return line if changed == decision else _line(changed)

    Lines(build, DECISIONS).change(without)
    return removed


def _redacted(text: str | None, keys: Set[str]) -> str | None:
    for key in keys:
        text = text.replace(key, "(removed)") if text else text
    return text


def _line(decision: Decision) -> bytes:
    """In ASCII, so that no character of a text ends the line for any reader."""
    return json.dumps(decision.model_dump(mode="json")).encode()
