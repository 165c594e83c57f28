"""Applies a selection rule to a build's score table; needs neither images nor models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import read_columns, read_embeddings
from surd.pipeline.decisions.in_force import InForce, in_force, is_overruled, latest_keeps
from surd.pipeline.deduplication.semantic import VectorFile, find_semantic_duplicates
from surd.pipeline.selection.calibration import calibrate
from surd.pipeline.selection.filters import Filter, filter_notes, filtered, load_filters
from surd.pipeline.tables import Tables
from surd.schemas import Calibration, Decision, Reason, Row, Selected, SelectionRule, Status, Threshold
from surd.schemas.config import SelectConfig

#: What a row says of whatever a person decided.
BY_HAND = "decided by hand"
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
_FIRST = pa.schema([("key", pa.string()), ("turn", pa.int64())])
_KEYS = pa.schema([("key", pa.string())])
_GROUP = 1 << 20  # rows of a row group of that file


@dataclass(frozen=True)
class Selection:
    """A verdict on every record, with the rule and the calibration behind it; as long as its tables are there."""

    build: Build
    settings: SelectConfig
    rule: SelectionRule
    calibration: Calibration
    holds: Mapping[str, InForce]
    filters: Sequence[Filter]
    tables: Tables

    def rows(self) -> Iterator[list[Selected]]:
        """The verdicts, a partition after another; each time anew, as they may be more than memory holds."""
        if self.settings.max_similarity is None:
            yield from _decided(self.build, self.rule, self.holds, self.filters)
            return
        compared = groupby(self.tables.rows("compared"), itemgetter("part"))
        following = next(compared, None)
        for part, rows in enumerate(_decided(self.build, self.rule, self.holds, self.filters)):
            if following and following[0] == part:
                for one in following[1]:
                    row, most = rows[one["place"]], self.settings.max_similarity
                    rows[one["place"]] = _compared(row, one, most, self.holds)
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

    What persons decided comes first, then thresholds, then filters of one's own; then samples that pass these are
    rejected when they are too close to a better one.
    """
    holds = in_force(build)
    rates = {"simple": settings.false_match_rate_simple, "complex": settings.false_match_rate_complex}
    calibration = calibrate(build, rates, clip)
    filters = load_filters(settings.filters)
    rule = SelectionRule(
        # Without a filter the rule is, byte for byte, what it was before there were any.
        settings=settings.model_dump(mode="json", exclude=set() if filters else {"filters"}),
        thresholds=_thresholds(settings, calibration),
        notes=[*calibration.notes, *filter_notes(filters)],
    )
    passed = "kept" if settings.max_similarity is None else "passed"
    write_kept(tables, passed, _decided(build, rule, holds, filters))
    if settings.max_similarity is not None:
        _one_of_each(build, tables, settings.max_similarity, holds)
    return Selection(build, settings, rule, calibration, holds, filters, tables)


def write_kept(tables: Tables, name: str, of_parts: Iterable[list[Selected]]) -> None:
    """Write a table of ``KEPT``: those of these rows, a partition after another, that are kept."""
    with tables.writing(name, KEPT) as writer:
        for part, rows in enumerate(of_parts):
            for place, row in enumerate(rows):
                if row.kept:
                    scores = {name: getattr(row, name) for name in _SCORES}
                    writer.add({"key": row.key, **scores, "part": part, "place": place})


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


def _decided(
    build: Build, rule: SelectionRule, holds: Mapping[str, InForce], filters: Sequence[Filter]
) -> Iterator[list[Selected]]:
    """The verdicts by persons, thresholds and filters, a partition after another."""
    columns = [*Row.model_fields, *_SCORES]
    for part in range(build.part_count()):
        rejects = filtered(build, part, filters)
        yield [
            _decide(Selected(**row), rule.thresholds, holds.get(row["key"]), rejects.get(row["key"]))
            for row in read_columns(build, "correct", part, columns).to_pylist()
        ]


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


def _one_of_each(build: Build, tables: Tables, most: float, holds: Mapping[str, InForce]) -> None:
    """Table ``compared``: of each row that met its thresholds the key and the cosine of the one that stays for it.

    Of samples whose images are closer than ``most`` that is the best fit to its simple prompt, then the least key. Of
    a row that stays both are null. One that a person wants to keep of its cluster comes before all others, and the rest
    of that cluster goes. One that was approved stays, and so do those beside it. Also makes the table ``kept``.
    """
    tables.make(
        "ranked",
        """SELECT row_number() OVER (ORDER BY coalesce(clip_simple, 0) DESC, key) - 1 AS rank, * FROM passed
           ORDER BY part, place""",
    )
    _compare(build, tables, most, "ranked", "alike")
    ranked, alike = "ranked", "alike"
    if first := latest_keeps(holds):
        ranked, alike = _compare_again(build, tables, most, first)
    tables.make(
        "compared",
        f"""SELECT r.part, r.place, s.key, a.similarity
            FROM {ranked} r LEFT JOIN {alike} a ON a.rank = r.rank LEFT JOIN {ranked} s ON s.rank = a.stays
            ORDER BY r.part, r.place""",
    )
    with tables.writing("approved", _KEYS) as approved:
        for key, hand in holds.items():
            if hand.keeps:
                approved.add({"key": key})
    tables.make(
        "kept",
        f"""SELECT r.* FROM {ranked} r LEFT JOIN {alike} a USING (rank) LEFT JOIN approved h USING (key)
            WHERE a.rank IS NULL OR h.key IS NOT NULL""",
    )


def _compare(build: Build, tables: Tables, most: float, ranked: str, alike: str) -> None:
    """Table ``alike``: rank of each row that goes, rank of the one that stays for it, and their cosine."""
    with tables.writing(alike, _ALIKE) as writer:
        if vectors := _write_vectors(build, tables, ranked):
            with vectors:
                for row, duplicate in find_semantic_duplicates(vectors, most):
                    writer.add({"rank": row, "stays": duplicate.row, "similarity": duplicate.similarity})
            tables.file("vectors").unlink()


def _compare_again(build: Build, tables: Tables, most: float, first: list[str]) -> tuple[str, str]:
    """Names of the tables ``ranked`` and ``alike`` as they are when the records ``first`` come before all others.

    What was in the cluster of one of them goes with it, also where only the row that stood for it was close enough.
    """
    with tables.writing("first", _FIRST) as writer:
        for turn, key in enumerate(first):
            writer.add({"key": key, "turn": turn})
    tables.make(
        "ranked_by_hand",
        """SELECT row_number() OVER (ORDER BY f.turn NULLS LAST, r.rank) - 1 AS rank, r.* EXCLUDE (rank)
           FROM ranked r LEFT JOIN first f USING (key) ORDER BY part, place""",
    )
    _compare(build, tables, most, "ranked_by_hand", "nearest")
    tables.make(
        "clusters",
        """SELECT n.rank, f.turn, coalesce(a.stays, r.rank) AS cluster, e.rank IS NOT NULL AS goes
           FROM ranked r JOIN ranked_by_hand n USING (key) LEFT JOIN first f USING (key)
           LEFT JOIN alike a ON a.rank = r.rank LEFT JOIN nearest e ON e.rank = n.rank""",
    )
    tables.make(
        "swapped",
        """WITH chosen AS (
               SELECT cluster, arg_min(rank, turn) AS stays FROM clusters
               WHERE turn IS NOT NULL AND NOT goes GROUP BY cluster)
           SELECT c.rank, s.stays FROM clusters c JOIN chosen s USING (cluster)
           WHERE NOT c.goes AND c.rank <> s.stays ORDER BY c.rank""",
    )
    with tables.writing("alike_by_hand", _ALIKE) as writer:
        for row in tables.rows("nearest"):
            writer.add(row)
        if tables.count("swapped") and (vectors := _write_vectors(build, tables, "ranked_by_hand")):
            with vectors:
                for row in tables.rows("swapped"):
                    one, other = vectors[row["rank"] : row["rank"] + 1], vectors[row["stays"] : row["stays"] + 1]
                    writer.add({**row, "similarity": float((one @ other.T)[0, 0])})
            tables.file("vectors").unlink()
    return "ranked_by_hand", "alike_by_hand"


def _write_vectors(build: Build, tables: Tables, ranked: str) -> VectorFile | None:
    """The image embeddings of the rows of a table, in the order of their ranks; None if there is no row."""
    vectors: VectorFile | None = None
    for part, group in groupby(tables.rows(ranked, ["part", "key", "rank"]), itemgetter("part")):
        rank_of = {row["key"]: row["rank"] for row in group}
        keys, of_part = read_embeddings(build, "score", part, "image_embedding", set(rank_of))
        if keys and vectors is None:
            vectors = VectorFile(tables.file("vectors"), tables.count(ranked), of_part.shape[1])
        for key, vector in zip(keys, of_part, strict=True):
            assert vectors is not None
            vectors.write(rank_of[key], vector)
    assert vectors or not tables.count(ranked), "a sample that met its thresholds has an embedding"
    return vectors


def _compared(row: Selected, other: dict[str, Any], most: float, holds: Mapping[str, InForce]) -> Selected:
    """``other``: the row of the table ``compared``."""
    if other["key"] is None:
        return row.model_copy(update={"cluster": row.key})
    row = row.model_copy(update={"cluster": other["key"], "similarity": other["similarity"]})
    if (hand := holds.get(row.key)) and hand.keeps:
        return row
    by_hand = f" ({BY_HAND})" if other["key"] in holds and holds[other["key"]].keep is not None else ""
    near = f"cosine {other['similarity']:.3f} with the image of {other['key']}"
    return row.reject("select", Reason.DUPLICATE_SEMANTIC, f"{near}, which is kept{by_hand}, is over {most:g}")
