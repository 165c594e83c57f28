"""All rows of one source record, side by side, read from the parts of a build's stages."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel

from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.schemas import (
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Pair,
    Rewritten,
    Scored,
    Selected,
    SourceRecord,
    from_table,
)

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class Record:
    """All that the stages say of one source record."""

    source: SourceRecord
    pair: Pair
    decoded: Decoded
    cleaned: Cleaned
    deduped: Deduped
    captioned: Captioned
    rewritten: Rewritten
    corrected: Corrected
    verdict: Selected


READS: dict[str, type[BaseModel]] = {
    "collect": SourceRecord,
    "fetch": Pair,
    "decode": Decoded,
    "clean": Cleaned,
    "dedup": Deduped,
    "caption": Captioned,
    "rewrite": Rewritten,
    "correct": Corrected,
    "select": Selected,
}


def read_records(build: Build, part: int) -> Iterator[Record]:
    """The records of one partition, in the order they were collected, with the sentences that persons wrote."""
    by_stage = {stage: {row.key: row for row in read_rows(build, stage, part, model)} for stage, model in READS.items()}  # type: ignore[attr-defined]
    for stage, rows in by_stage.items():
        if rows.keys() != by_stage["collect"].keys():
            raise DamagedFile(build, part_file(stage, part), "has other rows than were collected")
    for key in by_stage["collect"]:
        record = Record(*(rows[key] for rows in by_stage.values()))  # type: ignore[arg-type]
        yield replace(record, corrected=record.verdict.applied(record.corrected))


def read_qualities(build: Build, part: int, kept: Set[str]) -> dict[str, list[float]]:
    """What score measured of the quality of the pictures of these keys, by column; empty where it was not asked to."""
    if not build.exists(part_file("score", part)):
        return {}
    columns = [name for name in Scored.only_if_measured if name in columns_of(build, "score", part)]
    rows = read_columns(build, "score", part, ["key", *columns]).to_pylist() if columns else []
    return {name: [row[name] for row in rows if row["key"] in kept and row[name] is not None] for name in columns}


def read_rows(build: Build, stage: str, part: int, model: type[D]) -> list[D]:
    """Rows without their embeddings, which no person reads; a column that an older build lacks is null."""
    wanted = [name for name in columns_of(build, stage, part) if name in model.model_fields and "embedding" not in name]
    table = read_columns(build, stage, part, wanted)
    with reading(build, part_file(stage, part)):
        return from_table(model, table)
