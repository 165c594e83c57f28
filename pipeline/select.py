"""select: turns the score table into the final verdicts and a sorted list of keys; nothing else is read."""

from __future__ import annotations

import json

import pyarrow as pa

from pipeline.build import Build
from pipeline.models import Models
from schemas import Corrected, Reason, Selected
from schemas.config import SelectConfig


def select(build: Build, settings: SelectConfig, models: Models) -> list[list[Selected]]:
    """Rows per partition; also writes ``selection.parquet``: the kept keys, sorted, with the rule in its metadata."""
    parts = range(build.part_count())
    selected = [[_decide(row, settings) for row in build.read_rows("correct", part, Corrected)] for part in parts]
    kept = sorted((row for rows in selected for row in rows if row.kept), key=lambda row: row.key)
    table = pa.table(
        {
            "key": pa.array([row.key for row in kept], pa.string()),
            "clip_simple": pa.array([row.clip_simple for row in kept], pa.float64()),
            "clip_complex": pa.array([row.clip_complex for row in kept], pa.float64()),
        }
    ).replace_schema_metadata({"surd.rule": json.dumps(settings.model_dump(mode="json"), sort_keys=True)})
    build.write_table("selection.parquet", table)
    return selected


def _decide(row: Corrected, settings: SelectConfig) -> Selected:
    selected = Selected(**row.verdict(), clip_simple=row.clip_simple, clip_complex=row.clip_complex)
    if not row.kept:
        return selected
    for name, least in (("clip_simple", settings.min_clip_simple), ("clip_complex", settings.min_clip_complex)):
        score = getattr(row, name)
        if score < least:
            return selected.reject("select", Reason.BELOW_THRESHOLD, f"{name} {score:.3f} is under {least:g}")
    return selected
