"""Stage select: the final verdicts by thresholds on the score table, and the sorted list of kept keys."""

from __future__ import annotations

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.selection.choose import CALIBRATION, SELECTION, choose
from surd.schemas import BuildConfig, Selected


def select(build: Build, config: BuildConfig, models: Models) -> list[list[Selected]]:
    """Rows per partition; also writes ``selection.parquet`` and ``calibration.json``."""
    selection = choose(build, config.select, f"{models.config.clip} {models.revision('clip')}")
    build.write_json(CALIBRATION, selection.calibration)
    build.write_table(SELECTION, selection.table())
    return selection.rows
