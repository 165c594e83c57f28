"""Applies a selection rule to a build's score table; needs neither images nor models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.decisions.in_force import InForce, in_force
from surd.pipeline.selection.calibration import calibrate
from surd.pipeline.selection.filters import filter_notes, load_filters, write_filtered
from surd.pipeline.selection.one_of_each import compared, one_of_each
from surd.pipeline.selection.pictures import check_measured, limits_of
from surd.pipeline.selection.verdicts import decided
from surd.pipeline.tables import Tables
from surd.schemas import Calibration, Selected, SelectionRule, Threshold
from surd.schemas.config import SelectConfig

SELECTION, CALIBRATION = "selection.parquet", "calibration.json"
_SCORES = ("clip_simple", "clip_complex")
_RULE = b"surd.rule"
#: Of the table of the rows that are kept, from which the file of a selection is written.
KEPT = pa.schema(
    [
        ("key", pa.string()),
        ("clip_simple", pa.float64()),
        ("clip_complex", pa.float64()),
        ("part", pa.int32()),
        ("place", pa.int32()),  # row of the partition
    ]
)
_GROUP = 1 << 20  # rows of a row group of that file


@dataclass(frozen=True)
class Selection:
    """A verdict on every record, with the rule and the calibration behind it; as long as its tables are there."""

    build: Build
    settings: SelectConfig
    rule: SelectionRule
    calibration: Calibration
    holds: Mapping[str, InForce]
    tables: Tables

    def rows(self) -> Iterator[list[Selected]]:
        """The verdicts, a partition after another; each time anew, as they may be more than memory holds."""
        if self.settings.max_similarity is None:
            yield from decided(self.build, self.rule, self.holds, self.tables)
            return
        following_parts = groupby(self.tables.rows("compared"), itemgetter("part"))
        following = next(following_parts, None)
        for part, rows in enumerate(decided(self.build, self.rule, self.holds, self.tables)):
            if following and following[0] == part:
                for one in following[1]:
                    row, most = rows[one["place"]], self.settings.max_similarity
                    rows[one["place"]] = compared(row, one, most, self.holds)
                following = next(following_parts, None)
            yield rows

    def file(self) -> Path:
        """A file with the kept keys, sorted, and both scores; the rule and the calibration are in its metadata."""
        return selection_file(self.tables, self.rule, self.calibration)


def selection_file(tables: Tables, rule: SelectionRule, calibration: Calibration) -> Path:
    """Write the file of a selection from the table ``kept`` (see ``KEPT``); returns where it lies."""
    documents = {_RULE.decode(): rule, "surd.calibration": calibration}
    metadata = {name: json.dumps(value.model_dump(mode="json"), sort_keys=True) for name, value in documents.items()}
    schema = pa.schema([KEPT.field(name) for name in ("key", *_SCORES)], metadata=metadata)
    tables.make("sorted", f"SELECT {', '.join(schema.names)} FROM kept ORDER BY key")
    file = tables.file(SELECTION)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(tables, schema):
            writer.write_table(group, row_group_size=_GROUP)
    return file


def read_rule(build: Build, file: str = SELECTION) -> SelectionRule | None:
    """The rule in the file of a selection; None where there is no such file. Raises SurdError when it is not valid."""
    if not build.exists(file):
        return None
    try:
        with build.open_table(file) as opened:
            return SelectionRule.model_validate_json((pq.read_schema(opened).metadata or {})[_RULE])
    except (pa.ArrowException, ValidationError, KeyError):
        raise DamagedFile(build, file, "is not a valid selection") from None


def _groups(tables: Tables, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of the selection, a row group after another; an empty one if there is none."""
    pending = schema.empty_table()
    for batch in tables.batches("sorted"):
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch]).cast(schema)])
        if len(pending) >= _GROUP:
            yield pending.slice(0, _GROUP).combine_chunks()
            pending = pending.slice(_GROUP)
    if len(pending) or not tables.count("sorted"):
        yield pending.combine_chunks()  # where pages end depends on where chunks do


def choose(build: Build, settings: SelectConfig, clip: str, tables: Tables) -> Selection:
    """Apply ``settings`` to a build's scores; writes nothing in it. ``clip`` names the model the scores came from.

    What persons decided comes first, then thresholds, limits on the picture and filters of one's own; then samples that
    pass these are rejected when they are too close to a better one.
    """
    holds = in_force(build)
    rates = {"simple": settings.false_match_rate_simple, "complex": settings.false_match_rate_complex}
    calibration = calibrate(build, rates, clip)
    filters = load_filters(settings.filters)
    check_measured(build, limits_of(settings.picture))
    rule = SelectionRule(
        # Without filters and limits the rule is, byte for byte, what it was before there were any.
        settings=settings.model_dump(
            mode="json", exclude={name for name in ("filters", "picture") if not getattr(settings, name)}
        ),
        thresholds=_thresholds(settings, calibration),
        notes=[*calibration.notes, *filter_notes(filters)],
    )
    write_filtered(build, filters, tables)
    passed = "kept" if settings.max_similarity is None else "passed"
    write_kept(tables, passed, decided(build, rule, holds, tables))
    if settings.max_similarity is not None:
        one_of_each(build, tables, settings.max_similarity, holds)
    return Selection(build, settings, rule, calibration, holds, tables)


def write_kept(tables: Tables, name: str, of_parts: Iterable[list[Selected]]) -> None:
    """Write a table of ``KEPT``: those of these rows, a partition after another, that are kept."""
    with tables.writing(name, KEPT) as writer:
        for part, rows in enumerate(of_parts):
            for place, row in enumerate(rows):
                if row.kept:
                    scores = {name: getattr(row, name) for name in _SCORES}
                    writer.add({"key": row.key, **scores, "part": part, "place": place})


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
