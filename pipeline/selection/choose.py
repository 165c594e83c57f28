"""Applies a selection rule to a build's score table; needs neither images nor models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import read_columns, read_embeddings
from surd.pipeline.deduplication.semantic import VectorFile, find_semantic_duplicates
from surd.pipeline.selection.calibration import calibrate
from surd.pipeline.tables import Tables
from surd.schemas import Calibration, Reason, Row, Selected, SelectionRule, Threshold
from surd.schemas.config import SelectConfig

SELECTION, CALIBRATION = "selection.parquet", "calibration.json"
_SCORES = ("clip_simple", "clip_complex")
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
_ALIKE = pa.schema([("rank", pa.int64()), ("stays", pa.int64()), ("similarity", pa.float64())])
_GROUP = 1 << 20  # rows of a row group of that file


@dataclass(frozen=True)
class Selection:
    """A verdict on every record, with the rule and the calibration behind it; as long as its tables are there."""

    build: Build
    settings: SelectConfig
    rule: SelectionRule
    calibration: Calibration
    tables: Tables

    def rows(self) -> Iterator[list[Selected]]:
        """The verdicts, a partition after another; each time anew, as they may be more than memory holds."""
        if self.settings.max_similarity is None:
            yield from _decided(self.build, self.rule)
            return
        compared = groupby(self.tables.rows("compared"), itemgetter("part"))
        following = next(compared, None)
        for part, rows in enumerate(_decided(self.build, self.rule)):
            if following and following[0] == part:
                for one in following[1]:
                    rows[one["place"]] = _compared(rows[one["place"]], one, self.settings.max_similarity)
                following = next(compared, None)
            yield rows

    def file(self) -> Path:
        """A file with the kept keys, sorted, and both scores; the rule and the calibration are in its metadata."""
        return selection_file(self.tables, self.rule, self.calibration)


def selection_file(tables: Tables, rule: SelectionRule, calibration: Calibration) -> Path:
    """Write the file of a selection from the table ``kept`` (see ``KEPT``); returns where it lies."""
    documents = {"surd.rule": rule, "surd.calibration": calibration}
    metadata = {name: json.dumps(value.model_dump(mode="json"), sort_keys=True) for name, value in documents.items()}
    schema = pa.schema([KEPT.field(name) for name in ("key", *_SCORES)], metadata=metadata)
    tables.make("sorted", f"SELECT {', '.join(schema.names)} FROM kept ORDER BY key")
    file = tables.file(SELECTION)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(tables, schema):
            writer.write_table(group, row_group_size=_GROUP)
    return file


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

    Thresholds come first; then samples that pass them are rejected when they are too close to a better one.
    """
    rates = {"simple": settings.false_match_rate_simple, "complex": settings.false_match_rate_complex}
    calibration = calibrate(build, rates, clip)
    rule = SelectionRule(
        settings=settings.model_dump(mode="json"),
        thresholds=_thresholds(settings, calibration),
        notes=calibration.notes,
    )
    write_kept(tables, "kept" if settings.max_similarity is None else "passed", _decided(build, rule))
    if settings.max_similarity is not None:
        _one_of_each(build, tables, settings.max_similarity)
    return Selection(build, settings, rule, calibration, tables)


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


def _decided(build: Build, rule: SelectionRule) -> Iterator[list[Selected]]:
    """The verdicts by thresholds, a partition after another."""
    columns = [*Row.model_fields, *_SCORES]
    for part in range(build.part_count()):
        rows = read_columns(build, "correct", part, columns).to_pylist()
        yield [_decide(Selected(**row), rule.thresholds) for row in rows]


def _decide(row: Selected, thresholds: list[Threshold]) -> Selected:
    if row.kept:
        for threshold in thresholds:
            if why := threshold.unmet(getattr(row, threshold.column)):
                return row.reject("select", Reason.BELOW_THRESHOLD, why)
    return row


def _one_of_each(build: Build, tables: Tables, most: float) -> None:
    """Table ``compared``: of each row that met its thresholds the key and the cosine of the one that stays for it.

    Of samples whose images are closer than ``most`` that is the best fit to its simple prompt, then the least key. Of
    a row that stays both are null. Also makes the table ``kept`` of these.
    """
    tables.make(
        "ranked",
        """SELECT row_number() OVER (ORDER BY coalesce(clip_simple, 0) DESC, key) - 1 AS rank, * FROM passed
           ORDER BY part, place""",
    )
    with tables.writing("alike", _ALIKE) as alike:
        if vectors := _write_vectors(build, tables):
            with vectors:
                for row, duplicate in find_semantic_duplicates(vectors, most):
                    alike.add({"rank": row, "stays": duplicate.row, "similarity": duplicate.similarity})
            tables.file("vectors").unlink()
    tables.make(
        "compared",
        """SELECT r.part, r.place, s.key, a.similarity
           FROM ranked r LEFT JOIN alike a ON a.rank = r.rank LEFT JOIN ranked s ON s.rank = a.stays
           ORDER BY r.part, r.place""",
    )
    tables.make("kept", "SELECT * FROM ranked ANTI JOIN alike USING (rank)")


def _write_vectors(build: Build, tables: Tables) -> VectorFile | None:
    """The image embeddings of the rows of ``ranked``, in the order of their ranks; None if there is no row."""
    vectors: VectorFile | None = None
    for part, group in groupby(tables.rows("ranked", ["part", "key", "rank"]), itemgetter("part")):
        rank_of = {row["key"]: row["rank"] for row in group}
        keys, of_part = read_embeddings(build, "score", part, "image_embedding", set(rank_of))
        if keys and vectors is None:
            vectors = VectorFile(tables.file("vectors"), tables.count("ranked"), of_part.shape[1])
        for key, vector in zip(keys, of_part, strict=True):
            assert vectors is not None
            vectors.write(rank_of[key], vector)
    assert vectors or not tables.count("ranked"), "a sample that met its thresholds has an embedding"
    return vectors


def _compared(row: Selected, other: dict[str, Any], most: float) -> Selected:
    """``other``: the row of the table ``compared``."""
    if other["key"] is None:
        return row.model_copy(update={"cluster": row.key})
    row = row.model_copy(update={"cluster": other["key"], "similarity": other["similarity"]})
    detail = f"cosine {other['similarity']:.3f} with the image of {other['key']}, which is kept, is over {most:g}"
    return row.reject("select", Reason.DUPLICATE_SEMANTIC, detail)
