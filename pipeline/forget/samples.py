"""Finished samples, taken out of the shards and columns that hold them; all other shards stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Set
from contextlib import suppress
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.card import dataset_card, described
from surd.pipeline.dataset.columns.buckets import bucket_digits
from surd.pipeline.dataset.columns.reuse import items_file
from surd.pipeline.dataset.columns.spec import (
    ColumnSpec,
    column_folders,
    columns_present,
    marker_folder,
    shard_manifest,
)
from surd.pipeline.dataset.columns.write import Prompts, column_fingerprint, shard_prompts
from surd.pipeline.dataset.layout import LAYOUT
from surd.pipeline.forget.find import INDEX
from surd.pipeline.forget.markers import hashes, mark_rewritten
from surd.pipeline.forget.tars import Contents, drop_members, key_of
from surd.pipeline.models import Models
from surd.schemas import ColumnManifest, Marker, ShardInfo, SurdError
from surd.schemas.manifest import Buckets
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES

MANIFEST, CARD = "shards/manifest.json", "README.md"
_CAPTIONS = "captions"


def shards_of(build: Build, keys: Set[str]) -> dict[str, list[str]]:
    """Shard -> those of ``keys`` that its samples have, by the index."""
    found: dict[str, list[str]] = {}
    if build.exists(INDEX):
        table = build.read_table(INDEX, columns=["key", "shard"])
        for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True):
            if key in keys:
                found.setdefault(shard, []).append(key)
    return found


def remove_samples(build: Build, keys: Set[str], models: Models | None, *, everywhere: bool) -> Counter[str]:
    """Write the shards that hold records of ``keys`` without them, and so their columns; no model runs.

    A shard keeps its name and the order of its samples; one without any is an empty tar. The index comes last: a killed
    call is finished by the next. ``models``: those of the build, without which a column's marker cannot be renewed.
    ``everywhere``: search every shard, not those alone that hold the records by the index.
    """
    removed: Counter[str] = Counter()
    if not build.exists(MANIFEST):
        return removed
    manifest = shard_manifest(build)
    affected = shards_of(build, keys)
    searched = enumerate(manifest.shards)
    numbers = {shard.name: number for number, shard in searched if everywhere or shard.name in affected}
    shards: dict[str, Contents] = {}
    for name in numbers:
        shards[name] = drop_members(build, f"shards/{name}", keys)
        removed["bytes"] += shards[name].dropped_bytes
    fresh = [_described(shard, shards.get(shard.name)) for shard in manifest.shards]
    for name in column_folders(build):
        removed["column tars"] += _remove_from_column(build, name, keys, manifest.shards, fresh, numbers, models)
    removed["shards"] = sum(bool(contents.dropped) for contents in shards.values())
    removed["samples"] = sum(map(len, affected.values()))
    if numbers:
        build.write_json(MANIFEST, manifest.model_copy(update={"shards": fresh, "count": _count(fresh)}))
        _write_card(build, keys, _count(fresh))
        _write_index(build, keys, shards, fresh)
    _write_layout(build, keys, fresh)
    _mark(build, fresh)
    return removed


def _described(shard: ShardInfo, contents: Contents | None) -> ShardInfo:
    """What a manifest says of a tar, as it is now."""
    if contents is None:
        return shard
    return ShardInfo(name=shard.name, count=len(contents.keys), bytes=contents.size, sha256=contents.sha256)


def _count(shards: list[ShardInfo]) -> int:
    return sum(shard.count for shard in shards)


def _remove_from_column(
    build: Build, name: str, keys: Set[str], before: list[ShardInfo], after: list[ShardInfo],
    numbers: Mapping[str, int], models: Models | None,
) -> int:  # fmt: skip
    """Write a column's tars of these shards anew; returns how many. An unfinished column has no manifest."""
    column = columns_present(build).get(name)
    tars: dict[str, Contents] = {}
    for shard, number in numbers.items():
        file = f"columns/{name}/{shard}"
        build.remove(items_file(name, number))
        if not build.exists(file):
            continue
        tars[shard] = drop_members(build, file, keys)
        renewed = _fingerprints(build, column, before[number], after[number], keys, models) if column else {}
        mark_rewritten(build, marker_folder(name), number, {file: tars[shard].sha256}, partial(_renew, renewed))
    if tars and column:
        infos = [_described(info, tars.get(info.name)) for info in column.shards]
        fresh = column.model_copy(
            update={"shards": infos, "count": _count(infos), "buckets": _buckets(build, column, tars)}
        )
        build.write_json(f"columns/{name}/manifest.json", fresh)
    return len(tars)


def _buckets(build: Build, column: ColumnManifest, rewritten: Collection[str]) -> Buckets | None:
    """The buckets of a column's samples, now that some of its tars were written anew."""
    if column.buckets is None:
        return None
    digits = column.bucket_digits
    for name in rewritten:
        digits[name] = bucket_digits(build, f"columns/{column.column}/{name}", column.buckets)
    return column.buckets.model_copy(update={"numbers": list(digits.values())})


def _renew(fingerprints: Mapping[str, str], marker: Marker) -> dict[str, object]:
    return {"fingerprint": fingerprints.get(marker.fingerprint, marker.fingerprint)}


def _fingerprints(
    build: Build, column: ColumnManifest, before: ShardInfo, after: ShardInfo, keys: Set[str], models: Models | None
) -> dict[str, str]:
    """The fingerprint of a shard's column with these records -> that without; none where a model cannot be had."""
    with suppress(SurdError):
        if models:
            prompts: Prompts = shard_prompts(build, before)
            left = {key: row for key, row in prompts.items() if key not in keys}
            spec = ColumnSpec.of(column)
            return {
                column_fingerprint(spec, before, prompts, models): column_fingerprint(spec, after, left, models),
            }
    return {}


def _write_card(build: Build, keys: Set[str], count: int) -> None:
    """The dataset card with the new count. One that surd did not write stays as it is."""
    if not build.exists(CARD):
        return
    with suppress(ValueError):
        extensions, several = described(build.read_bytes(CARD).decode())
        captions = _with_captions(build, keys) if several else 0
        build.write_bytes(CARD, dataset_card(count, extensions, captions=captions).encode())


def _with_captions(build: Build, keys: Set[str]) -> int:
    """How many of the samples that stay have several captions."""
    table = build.read_table(INDEX)
    if _CAPTIONS not in table.column_names:
        return 0
    return sum(key not in keys for key in table.filter(pc.is_valid(table[_CAPTIONS]))["key"].to_pylist())


def _write_index(build: Build, keys: Set[str], shards: Mapping[str, Contents], infos: list[ShardInfo]) -> None:
    """The index without these records, a row group a shard, with the places that the others' images have now."""
    table = build.read_table(INDEX)
    table = table.filter(pa.array([key not in keys for key in table["key"].to_pylist()], pa.bool_())).combine_chunks()
    images = {
        name: {key_of(member): offset for member, offset in contents.offsets.items() if _is_image(member)}
        for name, contents in shards.items()
    }
    rows = zip(*(table[name].to_pylist() for name in ("key", "shard", "offset")), strict=True)
    offsets = [images[shard].get(key, offset) if shard in images else offset for key, shard, offset in rows]
    at = table.schema.get_field_index("offset")
    table = table.set_column(at, table.schema.field(at), pa.array(offsets, pa.int64()))
    if _CAPTIONS in table.column_names and table[_CAPTIONS].null_count == len(table):
        table = table.drop_columns([_CAPTIONS])
    build.write_table(INDEX, table, row_groups=[info.count for info in infos if info.count])


def _write_layout(build: Build, keys: Set[str], infos: list[ShardInfo]) -> None:
    """What pack noted of the shards, without these records, so that it takes them as they are now for its own."""
    if not build.exists(LAYOUT):
        return
    table = build.read_table(LAYOUT)
    table = table.filter(pa.array([key not in keys for key in table["key"].to_pylist()], pa.bool_())).combine_chunks()
    now = {info.name: info.sha256 for info in infos}
    rows = zip(table["shard"].to_pylist(), table["tar"].to_pylist(), strict=True)
    at = table.schema.get_field_index("tar")
    tars = pa.array([now.get(shard, tar) for shard, tar in rows], pa.string())
    build.write_table(LAYOUT, table.set_column(at, table.schema.field(at), tars))


def _is_image(member: str) -> bool:
    return member.partition(".")[2] in IMAGE_SUFFIXES


def _mark(build: Build, shards: list[ShardInfo]) -> None:
    """Markers of pack and embed, which list the files of all shards; their hashes are in the manifests."""
    now = {f"shards/{shard.name}": shard.sha256 for shard in shards} | hashes(build, [MANIFEST, INDEX, CARD, LAYOUT])
    mark_rewritten(build, "pack", 0, now)
    columns = {
        f"columns/{name}/{tar.name}": tar.sha256
        for name, column in columns_present(build).items()
        for tar in column.tars
    }
    for number in range(len(shards)):
        mark_rewritten(build, "embed", number, columns)
