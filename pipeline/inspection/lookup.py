"""Turns a build and a key into everything known about that one record, kept or rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from surd.pipeline.build.folder import Build, part_file, part_tar
from surd.pipeline.stages import STAGES
from surd.schemas import SurdError

INDEX = "shards/index.parquet"


def lookup(build: Build, key: str) -> dict[str, Any]:
    """``key``, ``status``, ``paths``, ``stages`` (each stage's row) and ``shard`` (its index row) of one record.

    ``key`` may be the beginning of a key. Raises SurdError when no record, or more than one, begins with it.
    """
    part, full_key = _find(build, key)
    stages = {}
    for stage in STAGES:
        if stage.row and build.exists(part_file(stage.name, part)):
            stages[stage.name] = _row(build, part_file(stage.name, part), full_key)
    known = {name: row for name, row in stages.items() if row is not None}
    latest = list(known.values())[-1]
    shard = _row(build, INDEX, full_key) if build.exists(INDEX) else None
    return {
        "key": full_key,
        "status": {name: latest[name] for name in ("status", "reason", "rejected_by", "detail")},
        "paths": _paths(build, part, known, shard),
        "stages": known,
        "shard": shard,
    }


def _find(build: Build, key: str) -> tuple[int, str]:
    prefix = key.strip().lower()
    found: list[tuple[int, str]] = []
    for part in range(build.part_count()):
        keys = build.read_table(part_file("collect", part), columns=["key"])["key"]
        matches = keys.filter(pc.starts_with(keys, pattern=prefix)).to_pylist()
        found += [(part, match) for match in matches]
    if not found:
        raise SurdError(
            f"key is {key!r} and no record of {build.root!r} has it; keys are 16 hex digits, see its report"
        )
    if len(found) > 1:
        some = ", ".join(match for _, match in found[:3])
        raise SurdError(f"key is {key!r} and {len(found)} records begin so ({some} ...); give more digits")
    return found[0]


def _row(build: Build, relative: str, key: str) -> dict[str, Any] | None:
    table = build.read_table(relative)
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["key"], key)).to_pylist()
    return rows[0] if rows else None


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
