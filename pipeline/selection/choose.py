"""Applies a selection rule to a build's score table; needs neither images nor models."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import FloatArray, read_columns, read_embeddings
from surd.pipeline.deduplication.semantic import find_semantic_duplicates
from surd.pipeline.selection.calibration import calibrate
from surd.schemas import Calibration, Reason, Row, Selected, SelectionRule, Threshold
from surd.schemas.config import SelectConfig

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

    Thresholds come first; then samples that pass them are rejected when they are too close to a better one.
    """
    rates = {"simple": settings.false_match_rate_simple, "complex": settings.false_match_rate_complex}
    calibration = calibrate(build, rates, clip)
    rule = SelectionRule(
        settings=settings.model_dump(mode="json"),
        thresholds=_thresholds(settings, calibration),
        notes=calibration.notes,
    )
    columns = [*Row.model_fields, *_SCORES]
    rows = [
        [_decide(Selected(**row), rule.thresholds) for row in read_columns(build, "correct", part, columns).to_pylist()]
        for part in range(build.part_count())
    ]
    if settings.max_similarity is not None:
        rows = _one_of_each(build, rows, settings.max_similarity)
    return Selection(rows, rule, calibration)


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


def _decide(row: Selected, thresholds: list[Threshold]) -> Selected:
    if row.kept:
        for threshold in thresholds:
            if why := threshold.unmet(getattr(row, threshold.column)):
                return row.reject("select", Reason.BELOW_THRESHOLD, why)
    return row


def _one_of_each(build: Build, rows: list[list[Selected]], most: float) -> list[list[Selected]]:
    """Of samples whose images are closer than ``most``, keep the best fit to its simple prompt, then the least key."""
    kept = [row for of_part in rows for row in of_part if row.kept]
    keys = [row.key for row in sorted(kept, key=lambda row: (-(row.clip_simple or 0.0), row.key))]
    duplicates = find_semantic_duplicates(keys, _images(build, keys), most) if keys else {}

    def decide(row: Selected) -> Selected:
        if not row.kept:
            return row
        if row.key not in duplicates:
            return row.model_copy(update={"cluster": row.key})
        other = duplicates[row.key]
        row = row.model_copy(update={"cluster": other.key, "similarity": other.similarity})
        detail = f"cosine {other.similarity:.3f} with the image of {other.key}, which is kept, is over {most:g}"
        return row.reject("select", Reason.DUPLICATE_SEMANTIC, detail)

    return [[decide(row) for row in of_part] for of_part in rows]


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
