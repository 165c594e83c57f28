"""Stage select: the final verdicts by thresholds on the score table, and the sorted list of kept keys.

Verdicts are given a partition after another and the list is sorted on disk (see ``pipeline/tables.py``), so that memory
does not grow with the records; ``python -m tests.bench.reduces`` measures it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import scratch
from surd.pipeline.models import Models
from surd.pipeline.selection.choose import CALIBRATION, SELECTION, choose
from surd.schemas import BuildConfig, Selected


def select(build: Build, config: BuildConfig, models: Models) -> Iterator[list[Selected]]:
    """Rows per partition; also writes ``selection.parquet`` and ``calibration.json``."""
    with scratch(build, "select") as tables:
        clip = f"{models.config.clip} {models.revision('clip')}"
        selection = choose(build, config.select, clip, tables)
        build.write_json(CALIBRATION, selection.calibration)
        with selection.file().open("rb") as chosen, build.writing(SELECTION) as file:
            shutil.copyfileobj(chosen, file)
        yield from selection.rows()
