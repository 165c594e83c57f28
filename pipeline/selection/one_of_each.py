"""Of samples whose images are alike, the one that stays: compared on disk, whatever their number."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import read_embeddings
from surd.pipeline.decisions.in_force import InForce, latest_keeps
from surd.pipeline.deduplication.semantic import VectorFile, find_semantic_duplicates
from surd.pipeline.selection.verdicts import BY_HAND
from surd.pipeline.tables import Tables
from surd.schemas import Reason, Selected

_ALIKE = pa.schema([("rank", pa.int64()), ("stays", pa.int64()), ("similarity", pa.float64())])
_FIRST = pa.schema([("key", pa.string()), ("turn", pa.int64())])
_KEYS = pa.schema([("key", pa.string())])


def one_of_each(build: Build, tables: Tables, most: float, holds: Mapping[str, InForce]) -> None:
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


def compared(row: Selected, other: dict[str, Any], most: float, holds: Mapping[str, InForce]) -> Selected:
    """``other``: the row of the table ``compared``."""
    if other["key"] is None:
        return row.model_copy(update={"cluster": row.key})
    row = row.model_copy(update={"cluster": other["key"], "similarity": other["similarity"]})
    if (hand := holds.get(row.key)) and hand.keeps:
        return row
    by_hand = f" ({BY_HAND})" if other["key"] in holds and holds[other["key"]].keep is not None else ""
    near = f"cosine {other['similarity']:.3f} with the image of {other['key']}"
    return row.reject("select", Reason.DUPLICATE_SEMANTIC, f"{near}, which is kept{by_hand}, is over {most:g}")
