"""Everything a build holds on one record, kept or rejected: each stage's row, its verdict, where its bytes lie."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from surd.pipeline.build.damage import reading, unfinished
from surd.pipeline.build.folder import Build, part_file, part_tar
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.stages import STAGES
from surd.schemas import SurdError
from surd.schemas.shard_format.captions import parse_captions

INDEX = "shards/index.parquet"


def lookup(build: Build, key: str) -> dict[str, Any]:
    """``key``, ``status``, ``paths``, ``stages`` (each stage's row) and ``shard`` (its index row) of one record.

    ``key`` may be the beginning of a key. Raises SurdError when no record, or more than one, begins with it.
    """
    part, full_key = _full_key(build, key)
    stages = {}
    for stage in STAGES:
        if stage.row and build.exists(part_file(stage.name, part)):
            stages[stage.name] = _row(build, part_file(stage.name, part), full_key)
    rows = {name: row for name, row in stages.items() if row is not None}
    latest = list(rows.values())[-1]
    shard = _row(build, INDEX, full_key) if build.exists(INDEX) else None
    return {
        "key": full_key,
        "status": {name: latest[name] for name in ("status", "reason", "rejected_by", "detail")},
        "paths": _paths(build, part, rows, shard),
        "stages": rows,
        "shard": shard,
    }


def _full_key(build: Build, key: str) -> tuple[int, str]:
    """The partition and the whole key of the one record whose key begins so."""
    prefix = key.strip().lower()
    candidates: list[tuple[int, str]] = []
    for part in range(build.part_count()):
        keys = build.read_table(part_file("collect", part), columns=["key"])["key"]
        with reading(build, part_file("collect", part)):
            matches = keys.filter(pc.starts_with(keys, pattern=prefix)).to_pylist()
        candidates += [(part, match) for match in matches]
    if not build.part_count():
        raise unfinished(build, "collect", 0)
    if not candidates:
        raise SurdError(
            f"key is {key!r}: no record of {build.root!r} has it; keys are 16 hex digits, listed in the build's report"
        )
    if len(candidates) > 1:
        some = ", ".join(match for _, match in candidates[:3])
        raise SurdError(f"key is {key!r}: {len(candidates)} keys begin with it ({some} ...); give more digits")
    return candidates[0]


def _row(build: Build, relative: str, key: str) -> dict[str, Any] | None:
    table = build.read_table(relative)
    with reading(build, relative):
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["key"], key)).to_pylist()
    if not rows:
        return None
    if rows[0].get("url"):
        rows[0]["url"] = redact_secrets(rows[0]["url"])
    if isinstance(captions := rows[0].get("captions"), str):  # those of correct, in one JSON text
        with suppress(ValueError):
            rows[0]["captions"] = [caption.model_dump() for caption in parse_captions(captions.encode())]
    single = {field.name for field in table.schema if _is_single(field.type)}
    return {name: _shortest_of(value) if name in single else value for name, value in rows[0].items()}


def shortest(number: float) -> float:
    """A number in single precision by its fewest digits: 1.4, not 1.399999976158142; any other number as it is."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return float(str(single)) if float(single) == number else number


def _is_single(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind.value_type if pa.types.is_list(kind) else kind))


def _shortest_of(value: Any) -> Any:
    return [_shortest_of(each) for each in value] if isinstance(value, list) else value and shortest(value)


def _paths(build: Build, part: int, stages: dict[str, Any], shard: dict[str, Any] | None) -> dict[str, str]:
    """Where the record's bytes lie: the original in fetch's tar, the sample in its shard, one array per column."""
    paths = {}
    fetched = stages.get("fetch", {})
    if fetched.get("offset") is not None:
        where = f"bytes {fetched['offset']} to {fetched['offset'] + fetched['size']}"
        paths["original"] = f"{build.path(part_tar('fetch', part))} ({where})"
    if shard is not None:
        name = Path(str(shard["shard"])).name
        paths["sample"] = build.path(f"shards/{name}")
        for column in build.listdir("columns"):
            paths[f"column {column}"] = build.path(f"columns/{column}/{name}")
    return paths
