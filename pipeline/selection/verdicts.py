"""The verdict on a row that reached selection: by a person, then thresholds, limits on the picture, filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import read_columns
from surd.pipeline.decisions.in_force import InForce, in_force, is_overruled
from surd.pipeline.selection.filters import filtered_parts
from surd.pipeline.selection.pictures import beyond_limits, limits_of_rule
from surd.pipeline.tables import Tables
from surd.schemas import Decision, Reason, Row, Selected, SelectionRule, Status, Threshold

#: What a row says of whatever a person decided.
BY_HAND = "decided by hand"
_SCORES = ("clip_simple", "clip_complex")


def decided(
    build: Build, rule: SelectionRule, holds: Mapping[str, InForce], tables: Tables
) -> Iterator[list[Selected]]:
    """The verdicts by persons, thresholds, limits and filters (see ``write_filtered``), a partition after another."""
    columns = [*Row.model_fields, *_SCORES]
    limits = limits_of_rule(rule)
    beyond: Iterable[Iterable[str | None]] = beyond_limits(build, limits) if limits else repeat(repeat(None))
    for part, (rejects, pictures) in enumerate(zip(filtered_parts(build, tables), beyond, strict=False)):
        rows = read_columns(build, "correct", part, columns).to_pylist()
        yield [
            _decide(Selected(**row), rule.thresholds, holds.get(row["key"]), picture, rejects.get(row["key"]))
            for row, picture in zip(rows, pictures, strict=False)
        ]


def obeying(build: Build, rows: list[Selected]) -> list[Selected]:
    """Rows of a build that selects nothing, as persons decided about them."""
    holds = in_force(build)
    return [_decide(row, [], holds.get(row.key)) for row in rows]


def _decide(
    row: Selected,
    thresholds: list[Threshold],
    hand: InForce | None,
    beyond: str | None = None,
    rejected: str | None = None,
) -> Selected:
    """``beyond``: which limit the picture does not meet; ``rejected``: why a filter rejects the row."""
    reasons = (each.unmet(getattr(row, each.column)) for each in thresholds) if row.kept else ()
    unmet = next(filter(None, reasons), None)
    why = unmet or beyond or rejected
    if row.reason is Reason.FORGOTTEN:  # nothing more may be said of it
        return row
    if hand and hand.reject:
        return _rejected_by_hand(row, hand.reject)
    if hand and hand.keeps:
        return _kept_by_hand(row, hand, why)
    if hand and row.kept:
        detail = row.detail or f"{BY_HAND}: of its duplicates, this one stays"
        row = row.model_copy(update={"by_hand": ", ".join(hand.verdicts), "detail": detail})
    if unmet:
        return row.reject("select", Reason.BELOW_THRESHOLD, unmet)
    if row.kept and beyond:
        return row.reject("select", Reason.PICTURE_LIMIT, beyond)
    return row.reject("select", Reason.FILTERED, rejected) if rejected else row


def _rejected_by_hand(row: Selected, decision: Decision) -> Selected:
    if not row.kept:  # by a stage before: that reason is the more telling one
        return row
    words = f"{BY_HAND}: {decision.reason}" if decision.reason else BY_HAND
    return row.model_copy(update={"by_hand": "reject"}).reject("select", Reason.REJECTED_BY_HAND, words)


def _kept_by_hand(row: Selected, hand: InForce, unmet: str | None) -> Selected:
    """A row that somebody approved, or whose sentence somebody wrote: kept unless a reason says that it must not be."""
    verdicts = ", ".join(hand.verdicts)
    if row.reason and not is_overruled(row.reason, edit=bool(hand.edit)):
        said = f"{row.detail or row.reason.meaning}; {verdicts} by hand does not undo this"
        return row.model_copy(update={"detail": said[:500]})
    because = unmet or (f"{row.reason}: {row.detail or row.reason.meaning}" if row.reason else None)
    update: dict[str, Any] = {
        "status": Status.KEPT,
        "reason": None,
        "rejected_by": None,
        "detail": (f"{BY_HAND}: kept though {because}" if because else BY_HAND)[:500],
        "by_hand": verdicts,
    }
    if hand.edit:
        update |= {"simple_by_hand": hand.edit.simple, "clip_simple": None}
    return row.model_copy(update=update)
