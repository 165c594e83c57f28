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
from surd.schemas import Pair, SurdError
from surd.schemas.shard_format.captions import parse_captions

INDEX = "shards/index.parquet"
_NAMES = ("url", "page_url", "source_id")  # by which people know a record, beside its key


def lookup(build: Build, key: str) -> dict[str, Any]:
    """``key``, ``status``, ``paths``, ``stages`` (each stage's row) and ``shard`` (its index row) of one record.

    ``key`` may be the beginning of a key, or a URL, page or id. Raises SurdError unless exactly one record has it.
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
    """The partition and the whole key of the one record whose key begins so, or that has this URL, page or id."""
    name, candidates = key.strip(), list[tuple[int, str]]()
    for part in range(build.part_count()):
        table = build.read_table(part_file("collect", part), columns=["key", *_NAMES])
        with reading(build, part_file("collect", part)):
            matching = pc.starts_with(table["key"], pattern=name.lower())
            for other in _NAMES:
                matching = pc.or_kleene(matching, pc.equal(table[other], name))
            candidates += [(part, match) for match in table.filter(matching)["key"].to_pylist()]
    if not build.part_count():
        raise unfinished(build, "collect", 0)
    shown = redact_secrets(key)
    if not candidates:
        raise SurdError(
            f"key is {shown!r}: no record of {build.root!r} has it; give a key (16 hex digits, listed in the report)"
            " or its beginning, or a record's URL, page or id as its source states it"
        )
    if len(candidates) > 1:
        some = ", ".join(match for _, match in candidates[:3])
        raise SurdError(f"key is {shown!r}: {len(candidates)} records have it ({some} ...); give more of a key")
    return candidates[0]


def write_image(build: Build, record: dict[str, Any], file: Path, *, overwrite: bool = False) -> None:
    """Write the picture of a record that ``lookup`` gave, byte for byte as it was fetched.

    Raises SurdError where it has none, and where the file is there, without ``overwrite``.
    """
    if record["stages"].get("fetch", {}).get("offset") is None:
        reason = record["status"]["reason"] or "it was not fetched"
        raise SurdError(f"--image is {str(file)!r}: the record {record['key']} has no picture ({reason})")
    if file.exists() and not overwrite:
        raise SurdError(
            f"--image is {str(file)!r}: it is there already; use another name, or replace it with --overwrite"
        )
    part, _ = _full_key(build, record["key"])
    pair = next(pair for pair in build.read_rows("fetch", part, Pair) if pair.key == record["key"])
    try:
        file.write_bytes(next(build.images(part, [pair])))
    except OSError as error:
        raise SurdError(f"--image is {str(file)!r}: it cannot be written ({error.strerror}); use another") from None


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
