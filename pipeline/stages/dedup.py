"""Stage dedup: clusters of the same picture or prompt over all partitions, of which the best row stays.

Bytes that come under five unlike prompts are a placeholder, of which none stays. Of other clusters the best row is the
one with most pixels, then most bytes, then the smallest key, or the one that a person wants to keep. Clusters are
made in three steps, each among the rows that the one before left: same bytes, same picture (resized, recompressed,
lightly cropped, on request mirrored), almost the same prompt.

Rows lie in tables on disk from the first step to the last (see ``pipeline/tables.py``), so that memory grows far
slower than their number; ``python -m tests.bench.reduces`` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from surd.pipeline import untrusted_json
from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file, part_miniatures
from surd.pipeline.build.memory import give_back_memory
from surd.pipeline.build.part_columns import read_columns
from surd.pipeline.build.scratch import scratch
from surd.pipeline.decisions.in_force import in_force, latest_keeps
from surd.pipeline.deduplication.by_hand import swap_by_hand
from surd.pipeline.deduplication.minhash import PromptTable, prompt_set
from surd.pipeline.deduplication.near_duplicates import Likeness, MiniatureFile, find_near_duplicates
from surd.pipeline.deduplication.placeholders import ENOUGH, REPEATS, unlike_prompts
from surd.pipeline.models import Models
from surd.pipeline.tables import Documents, Tables
from surd.schemas import BuildConfig, Deduped, Reason, Row, Status
from surd.schemas.config import DedupConfig
from surd.schemas.shard_format.npy import read_npy

_RULE = "the one with most pixels stays, then most bytes, then the smallest key"
_KEPT = pa.schema(
    [
        ("key", pa.string()),
        ("sha256", pa.string()),
        ("pixels", pa.int64()),
        ("size", pa.int64()),
        ("part", pa.int32()),
        ("place", pa.int32()),  # row of the partition
    ]
)
_ALIKE = pa.schema(
    [
        ("number", pa.int32()),
        ("stays", pa.int32()),
        ("distance", pa.int32()),
        ("difference", pa.float64()),
        ("flipped", pa.bool_()),
    ]
)
_SAME_PROMPT = pa.schema([("row", pa.int32()), ("stays", pa.int32()), ("similarity", pa.float64())])


def dedup(build: Build, config: BuildConfig, models: Models) -> Iterator[list[Deduped]]:
    """Rows per partition; of every cluster all rows but the best (of prompts: the best few) are rejected."""
    settings = config.dedup
    with scratch(build, "dedup") as tables:
        _read_kept(build, tables)
        placeholders = _placeholders(build, tables)
        _rank(tables, placeholders)
        _find_images(build, tables, settings)
        swap_by_hand(tables, latest_keeps(in_force(build)))
        give_back_memory()
        _find_prompts(build, tables, settings)
        tables.make(
            "verdicts",
            """SELECT c.part, c.place, i.image, i.distance, i.difference, i.flipped, i.same_bytes, i.by_hand,
                      p.representative, p.similarity, p.over_limit
               FROM candidates c LEFT JOIN images i ON i.rank = c.rank LEFT JOIN same_prompt p ON p.rank = c.rank
               ORDER BY c.part, c.place""",
        )
        verdicts = groupby(tables.rows("verdicts"), itemgetter("part"))
        following = next(verdicts, None)
        for part in range(build.part_count()):
            of_part: dict[int, dict[str, Any]] = {}
            if following and following[0] == part:
                of_part = {verdict["place"]: verdict for verdict in following[1]}
                following = next(verdicts, None)
            yield [
                _decide(row, of_part.get(place, {}), settings)
                if sha256 not in placeholders
                else _not_placeholder(row, placeholders[sha256])
                for place, (row, sha256) in enumerate(zip(_rows(build, part), _hashes(build, part), strict=True))
            ]


def _rows(build: Build, part: int) -> list[Row]:
    table = build.read_table(part_file("clean", part), columns=list(Row.model_fields))
    return [Row.model_validate(row) for row in table.to_pylist()]


def _read_kept(build: Build, tables: Tables) -> None:
    """Table ``kept``: the rows that are still kept, what identifies their pictures, and what ranks them."""
    with tables.writing("kept", _KEPT) as kept:
        for part in range(build.part_count()):
            pairs = read_columns(build, "fetch", part, ["sha256", "width", "height", "size"]).to_pylist()
            verdicts = read_columns(build, "clean", part, ["key", "status"]).to_pylist()
            for place, (row, pair) in enumerate(zip(verdicts, pairs, strict=True)):
                if row["status"] == Status.KEPT:
                    pixels = pair["width"] * pair["height"]
                    identity = {"key": row["key"], "sha256": pair["sha256"], "pixels": pixels, "size": pair["size"]}
                    kept.add({**identity, "part": part, "place": place})


def _placeholders(build: Build, tables: Tables) -> dict[str, list[str]]:
    """sha256 -> five unlike prompts, of bytes that come under so many: of several records, or of one listed often."""
    repeats: dict[str, list[str]] = untrusted_json.parse(build.read_bytes(REPEATS)) if build.exists(REPEATS) else {}
    with tables.writing("repeated", pa.schema([("key", pa.string())])) as repeated:
        for key in repeats:
            repeated.add({"key": key})
    tables.make(
        "suspects",
        f"""WITH often AS (SELECT sha256 FROM kept GROUP BY sha256 HAVING count(*) >= {ENOUGH}),
                 chosen AS (SELECT k.*, row_number() OVER (ORDER BY k.pixels DESC, k.size DESC, k.key) AS rank
                            FROM kept k WHERE k.sha256 IN (FROM often) OR k.key IN (SELECT key FROM repeated)),
                 parts AS (SELECT part, min(rank) AS part_rank FROM chosen GROUP BY part)
            SELECT c.key, c.sha256, c.part, c.place, row_number() OVER (ORDER BY p.part_rank, c.rank) AS turn
            FROM chosen c JOIN parts p ON p.part = c.part ORDER BY c.part, c.place""",
    )
    with Documents(tables.file("texts")) as texts:
        schema = pa.schema(
            [("sha256", pa.string()), ("turn", pa.int64()), ("offset", pa.int64()), ("size", pa.int64())]
        )
        with tables.writing("texts", schema) as table:
            for part, suspects in groupby(tables.rows("suspects"), itemgetter("part")):
                prompts = read_columns(build, "clean", part, ["complex"])["complex"].to_pylist()
                for one in suspects:
                    for text in (prompts[one["place"]] or "", *repeats.get(one["key"], ())):
                        offset, size = texts.add(text.encode("utf-8", "surrogatepass"))
                        table.add({"sha256": one["sha256"], "turn": one["turn"], "offset": offset, "size": size})
        texts.flush()
        tables.make("texts_in_turn", 'SELECT * FROM texts ORDER BY sha256, turn, "offset"')
        placeholders = {}
        for sha256, of_bytes in groupby(tables.rows("texts_in_turn"), itemgetter("sha256")):
            in_turn = (texts.read(one["offset"], one["size"]).decode("utf-8", "surrogatepass") for one in of_bytes)
            if len(unlike := unlike_prompts(in_turn)) >= ENOUGH:
                placeholders[sha256] = unlike
    return placeholders


def _hashes(build: Build, part: int) -> list[str | None]:
    hashes: list[str | None] = read_columns(build, "fetch", part, ["sha256"])["sha256"].to_pylist()
    return hashes


def _not_placeholder(row: Row, prompts: list[str]) -> Deduped:
    deduped = Deduped(**row.verdict())
    if not row.kept:
        return deduped
    examples = ", ".join(f"{prompt[:80]!r}" for prompt in prompts[:3])
    return deduped.reject("dedup", Reason.PLACEHOLDER, f"the same bytes come under unlike prompts, e.g. {examples}")


def _rank(tables: Tables, placeholders: dict[str, list[str]]) -> None:
    """Tables ``candidates``, the best row first, with the ``best`` rank of those with its bytes; and ``pictures``."""
    with tables.writing("placeholders", pa.schema([("sha256", pa.string())])) as writer:
        for sha256 in placeholders:
            writer.add({"sha256": sha256})
    tables.make(
        "ranked",
        """SELECT row_number() OVER (ORDER BY pixels DESC, size DESC, key) - 1 AS rank, key, sha256, part, place
           FROM kept ANTI JOIN placeholders USING (sha256)""",
    )
    tables.make(
        "candidates",
        """SELECT rank, min(rank) OVER (PARTITION BY sha256) AS best, key, part, place FROM ranked""",
    )
    tables.make(
        "pictures",
        """SELECT row_number() OVER (ORDER BY rank) - 1 AS number, rank, key, part, place
           FROM candidates WHERE rank = best""",
    )


def _find_images(build: Build, tables: Tables, settings: DedupConfig) -> None:
    """Table ``images_found``: rank of every row whose picture is that of a better row, and the key of that one.

    ``distance`` is null where the bytes are the same.
    """
    with tables.writing("alike", _ALIKE) as alike:
        if settings.radius >= 0:
            with MiniatureFile(tables.file("miniatures"), tables.count("pictures")) as minis:
                _write_miniatures(build, tables, minis)
                for number, stays, like in find_near_duplicates(minis, settings):
                    likeness = {"distance": like.distance, "difference": like.difference, "flipped": like.flipped}
                    alike.add({"number": number, "stays": stays, **likeness})
            tables.file("miniatures").unlink()
    tables.make(
        "images_found",
        """SELECT c.rank, coalesce(s.key, p.key) AS image,
                  CASE WHEN c.rank = c.best THEN a.distance END AS distance,
                  CASE WHEN c.rank = c.best THEN a.difference END AS difference, a.flipped
           FROM candidates c JOIN pictures p ON p.rank = c.best
                LEFT JOIN alike a ON a.number = p.number LEFT JOIN pictures s ON s.number = a.stays
           WHERE c.rank <> c.best OR a.number IS NOT NULL""",
    )


def _write_miniatures(build: Build, tables: Tables, minis: MiniatureFile) -> None:
    """The pictures' miniatures, in their order: 3 KB each, all that is compared of a picture."""
    tables.make("pictures_by_part", "SELECT part, place, number FROM pictures ORDER BY part, place")
    for part, pictures in groupby(tables.rows("pictures_by_part"), itemgetter("part")):
        data = build.read_bytes(file := part_miniatures(part))
        with reading(build, file):
            array = read_npy(data)
            for picture in pictures:
                minis.write(picture["number"], array[picture["place"]])


def _find_prompts(build: Build, tables: Tables, settings: DedupConfig) -> None:
    """Table ``same_prompt``: rank of every row that is left, its prompt's representative, and if it is one too many.

    Empty if prompts are not compared.
    """
    tables.make(
        "left_over",
        """SELECT row_number() OVER (ORDER BY h.turn NULLS LAST, c.rank) - 1 AS "row", c.rank, c.key, c.part, c.place
           FROM candidates c ANTI JOIN images i ON i.rank = c.rank LEFT JOIN chosen h ON h.key = c.key
           ORDER BY h.turn NULLS LAST, c.rank""",
    )
    with Documents(tables.file("sets")) as sets:
        prompts = PromptTable(tables, sets)
        with tables.writing("prompts", PromptTable.SCHEMA) as writer:
            for rows, of_part in _prompt_sets(build, tables) if settings.max_per_prompt else ():
                for entry in prompts.entries(rows, of_part):
                    writer.add(entry)
        with tables.writing("alike_prompts", _SAME_PROMPT) as same:
            for row, duplicate in prompts.duplicates(settings.prompt_similarity):
                same.add({"row": row, "stays": duplicate.row, "similarity": duplicate.similarity})
    tables.make(
        "same_prompt",
        f"""WITH represented AS (
                SELECT e."row", coalesce(a.stays, e."first") AS stays, coalesce(a.similarity, 1.0) AS similarity
                FROM equals e LEFT JOIN alike_prompts a ON a."row" = e."first")
            SELECT l.rank, s.key AS representative, r.similarity,
                   row_number() OVER (PARTITION BY r.stays ORDER BY r."row") > {settings.max_per_prompt} AS over_limit
            FROM represented r JOIN left_over l ON l."row" = r."row" JOIN left_over s ON s."row" = r.stays""",
    )


def _prompt_sets(build: Build, tables: Tables) -> Iterator[tuple[list[int], list[frozenset[str]]]]:
    """Rows of ``left_over`` and the sets of their prompts, a partition at a time."""
    tables.make("left_by_part", 'SELECT part, place, "row" FROM left_over ORDER BY part, place')
    for part, group in groupby(tables.rows("left_by_part"), itemgetter("part")):
        of_part = list(group)
        keywords = read_columns(build, "clean", part, ["keywords"])["keywords"].to_pylist()
        yield [one["row"] for one in of_part], [prompt_set(keywords[one["place"]] or ()) for one in of_part]


def _decide(row: Row, verdict: dict[str, Any], settings: DedupConfig) -> Deduped:
    """``verdict``: the row of table ``verdicts``; empty for one that was not kept before."""
    deduped = Deduped(**row.verdict())
    if not row.kept:
        return deduped
    if image := verdict["image"]:
        columns: dict[str, Any] = {"cluster": image}
        rule = f"{image} stays, decided by hand" if verdict["by_hand"] else _RULE
        if verdict["same_bytes"]:
            return deduped.model_copy(update=columns).reject(
                "dedup", Reason.DUPLICATE_BYTES, f"same bytes as a copy of {image}; {rule}"
            )
        if verdict["by_hand"]:
            return deduped.model_copy(update=columns).reject(
                "dedup", Reason.DUPLICATE_IMAGE, f"copy of {image} or of a copy of it; {rule}"
            )
        likeness = Likeness(verdict["distance"], verdict["difference"], verdict["flipped"])
        columns |= {"distance": likeness.distance, "difference": likeness.difference}
        return deduped.model_copy(update=columns).reject(
            "dedup",
            Reason.DUPLICATE_IMAGE,
            f"{'mirrored ' if likeness.flipped else ''}copy of {image}: {likeness.distance} bits of the hash and "
            f"{likeness.difference:g} levels of colour apart; {rule}",
        )
    columns = {"cluster": row.key}
    if representative := verdict["representative"]:
        columns |= {"prompt_cluster": representative, "prompt_similarity": round(verdict["similarity"], 4)}
        if verdict["over_limit"]:
            return deduped.model_copy(update=columns).reject(
                "dedup",
                Reason.DUPLICATE_PROMPT,
                f"prompt {verdict['similarity']:.2f} alike that of {representative}, of which the best "
                f"{settings.max_per_prompt} stay: most pixels, then most bytes, then the smallest key",
            )
    return deduped.model_copy(update=columns)
