"""Applies a selection rule to a build's score table; needs neither images nor models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import FloatArray, read_columns, read_embeddings
from surd.pipeline.decisions.in_force import InForce, in_force, is_overruled, latest_keeps
from surd.pipeline.deduplication.semantic import Duplicate, find_semantic_duplicates
from surd.pipeline.selection.calibration import calibrate
from surd.pipeline.selection.filters import filter_notes, filtered, load_filters
from surd.schemas import Calibration, Decision, Reason, Row, Selected, SelectionRule, Status, Threshold
from surd.schemas.config import SelectConfig

#: What a row says of whatever a person decided.
BY_HAND = "decided by hand"
SELECTION, CALIBRATION = "selection.parquet", "calibration.json"
_SCORES = ("clip_simple", "clip_complex")


@dataclass(frozen=True)
class Selection:
    """A verdict on every record, with the rule and the calibration behind it."""

    rows: list[list[Selected]]
    rule: SelectionRule
    calibration: Calibration

    def table(self) -> pa.Table:
        """The kept keys, sorted, with both scores; the rule and the calibration are in the metadata."""
        kept = sorted((row for rows in self.rows for row in rows if row.kept), key=lambda row: row.key)
        columns = {"key": pa.array([row.key for row in kept], pa.string())}
        columns |= {name: pa.array([getattr(row, name) for row in kept], pa.float64()) for name in _SCORES}
        documents = {"surd.rule": self.rule, "surd.calibration": self.calibration}
        return pa.table(columns).replace_schema_metadata(
            {name: json.dumps(value.model_dump(mode="json"), sort_keys=True) for name, value in documents.items()}
        )


def choose(build: Build, settings: SelectConfig, clip: str) -> Selection:
    """Apply ``settings`` to a build's scores; writes nothing. ``clip`` names the model the scores came from.

    What persons decided comes first, then thresholds, then filters of one's own; then samples that pass these are
    rejected when they are too close to a better one.
    """
    holds = in_force(build)
    rates = {"simple": settings.false_match_rate_simple, "complex": settings.false_match_rate_complex}
    calibration = calibrate(build, rates, clip)
    filters = load_filters(settings.filters)
    rule = SelectionRule(
        # Without a filter the rule is, byte for byte, what it was before there were any.
        settings=settings.model_dump(mode="json", exclude=None if filters else {"filters"}),
        thresholds=_thresholds(settings, calibration),
        notes=[*calibration.notes, *filter_notes(filters)],
    )
    columns = [*Row.model_fields, *_SCORES]
    rows = []
    for part in range(build.part_count()):
        rejects = filtered(build, part, filters)
        rows.append(
            [
                _decide(Selected(**row), rule.thresholds, holds.get(row["key"]), rejects.get(row["key"]))
                for row in read_columns(build, "correct", part, columns).to_pylist()
            ]
        )
    if settings.max_similarity is not None:
        rows = _one_of_each(build, rows, settings.max_similarity, holds)
    return Selection(rows, rule, calibration)


def obeying(build: Build, rows: list[Selected]) -> list[Selected]:
    """Rows of a build that selects nothing, as persons decided about them."""
    holds = in_force(build)
    return [_decide(row, [], holds.get(row.key)) for row in rows]


def _thresholds(settings: SelectConfig, calibration: Calibration) -> list[Threshold]:
    thresholds = []
    for name, least, measured in (
        ("simple", settings.min_clip_simple, calibration.simple),
        ("complex", settings.min_clip_complex, calibration.complex),
    ):
        thresholds.append(Threshold(column=f"clip_{name}", least=least))
        if measured and measured.rate is not None and measured.threshold is not None:
            origin = f"the {100 * measured.rate:.3g}% false-match threshold"
            thresholds.append(Threshold(column=f"clip_{name}", least=measured.threshold, origin=origin))
    return thresholds


def _decide(row: Selected, thresholds: list[Threshold], hand: InForce | None, rejected: str | None = None) -> Selected:
    """``rejected``: why a filter rejects the row."""
    reasons = (each.unmet(getattr(row, each.column)) for each in thresholds) if row.kept else ()
    unmet = next(filter(None, reasons), None)
    why = unmet or rejected
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


def _one_of_each(
    build: Build, rows: list[list[Selected]], most: float, holds: Mapping[str, InForce]
) -> list[list[Selected]]:
    """Of samples whose images are closer than ``most``, keep the best fit to its simple prompt, then the least key.

    One that a person wants to keep of its cluster comes before all others, and the rest of that cluster goes. One that
    was approved stays, and so do those beside it.
    """
    kept = [row for of_part in rows for row in of_part if row.kept]
    keys = [row.key for row in sorted(kept, key=lambda row: (-(row.clip_simple or 0.0), row.key))]
    vectors = _images(build, keys) if keys else None
    duplicates = find_semantic_duplicates(keys, vectors, most) if vectors is not None else {}
    among = set(keys)
    if vectors is not None and (first := [key for key in latest_keeps(holds) if key in among]):
        duplicates = _swapped(keys, vectors, most, first, duplicates)

    def decide(row: Selected) -> Selected:
        if not row.kept:
            return row
        if row.key not in duplicates:
            return row.model_copy(update={"cluster": row.key})
        other = duplicates[row.key]
        row = row.model_copy(update={"cluster": other.key, "similarity": other.similarity})
        if (hand := holds.get(row.key)) and hand.keeps:
            return row
        by_hand = f" ({BY_HAND})" if other.key in holds and holds[other.key].keep is not None else ""
        near = f"cosine {other.similarity:.3f} with the image of {other.key}"
        detail = f"{near}, which is kept{by_hand}, is over {most:g}"
        return row.reject("select", Reason.DUPLICATE_SEMANTIC, detail)

    return [[decide(row) for row in of_part] for of_part in rows]


def _swapped(
    keys: list[str], vectors: FloatArray, most: float, first: list[str], before: Mapping[str, Duplicate]
) -> dict[str, Duplicate]:
    """The duplicates where the records ``first`` come before all others. What was in the cluster of one of them
    ``before`` goes with it, also where only the row that stood for it was close enough."""
    at = {key: row for row, key in enumerate(keys)}
    chosen = set(first)
    order = [*first, *(key for key in keys if key not in chosen)]
    after = find_semantic_duplicates(order, vectors[[at[key] for key in order]], most)
    cluster_of = {key: before[key].key if key in before else key for key in keys}
    stays = {cluster_of[key]: key for key in reversed(first) if key not in after}
    for key in keys:
        other = stays.get(cluster_of[key])
        if other and key != other and key not in after:
            after[key] = Duplicate(other, float(vectors[at[key]] @ vectors[at[other]]))
    return after


def _images(build: Build, keys: list[str]) -> FloatArray:
    """The image embeddings of ``keys`` [keys, width], in that order; filled in place, as they are most of a build."""
    row_of = {key: row for row, key in enumerate(keys)}
    matrix: FloatArray | None = None
    for part in range(build.part_count()):
        of_part, vectors = read_embeddings(build, "score", part, "image_embedding", set(row_of))
        if not of_part:
            continue
        if matrix is None:
            matrix = np.zeros((len(keys), vectors.shape[1]), np.float32)
        matrix[[row_of[key] for key in of_part]] = vectors
    assert matrix is not None, "a sample that met its thresholds has an embedding"
    return matrix
