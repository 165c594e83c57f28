"""What the stages wrote of records, taken out of one partition after another: rows, fetched bytes, miniatures."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import pyarrow as pa

from surd.pipeline import untrusted_json
from surd.pipeline.acquisition.journal import drop_entries, journal_hash
from surd.pipeline.acquisition.tombstones import Tombstones, stub
from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build, part_file, part_journal, part_miniatures, part_tar
from surd.pipeline.deduplication.placeholders import REPEATS
from surd.pipeline.forget.find import page_rows, parts_of
from surd.pipeline.forget.markers import hashes, mark_rewritten
from surd.pipeline.forget.tars import drop_members
from surd.pipeline.selection.choose import SELECTION
from surd.pipeline.stages import BY_NAME, STAGES
from surd.pipeline.stages.collect import PAGES
from surd.schemas import Marker, Reason, SourceRecord, arrow_schema
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.npy import read_npy

ROW_STAGES = tuple(stage for stage in STAGES if stage.row)


def remove_rows(build: Build, keys: Set[str], tombstones: Tombstones, fetch: FetchConfig | None) -> Counter[str]:
    """Leave a rejected row without content of each record, in every stage, and none of its bytes.

    Returns what was removed, as counts by what it was. ``fetch``: what the build's journals were begun with.
    """
    removed: Counter[str] = Counter()
    affected = [part for part in parts_of(build, "collect") if not keys.isdisjoint(_keys(build, "collect", part))]
    for part in affected:
        _remove_from_journals(build, part, keys, tombstones, fetch, removed)
        offsets = _remove_bytes(build, part, keys, removed)
        for stage in ROW_STAGES:
            if build.exists(part_file(stage.name, part)):
                _remove_from_part(build, stage.name, part, keys, offsets if stage.name == "fetch" else {}, removed)
        if build.exists(part_miniatures(part)):
            _blacken(build, part, keys, removed)
        for stage in ROW_STAGES:
            if stage.scope == "partition":
                files = [part_file(stage.name, part), part_tar(stage.name, part), part_miniatures(part)]
                now = hashes(build, files)
                mark_rewritten(build, stage.name, part, now, lambda marker: _transient(build, marker))
    _remove_from_pages(build, tombstones, removed)
    _remove_repeats(build, keys, removed)
    _remove_selected(build, keys, removed)
    for name, beside in (("collect", [REPEATS]), ("dedup", []), ("select", [SELECTION])):
        if affected:
            mark_rewritten(build, name, 0, hashes(build, [*(part_file(name, part) for part in affected), *beside]))
    removed["partitions"] = len(affected)
    return removed


def without_content(table: pa.Table, stage: str, keys: Set[str]) -> pa.Table | None:
    """A stage's rows with nothing but key and verdict left of those of ``keys``; None if there is no such row."""
    names, reasons = table["key"].to_pylist(), table["reason"].to_pylist()
    gone = [at for at, key in enumerate(names) if key in keys and reasons[at] != Reason.FORGOTTEN]
    if not gone:
        return None
    stubs = [stub(names[at]) for at in gone]
    if stage == "collect":  # two columns that are never null
        sources = table["source"].take(gone).to_pylist()
        stubs = [row | {"source": source, "source_id": ""} for row, source in zip(stubs, sources, strict=True)]
    both = pa.concat_tables([table, pa.Table.from_pylist(stubs, schema=table.schema)])
    place = np.arange(len(table))
    place[gone] = len(table) + np.arange(len(gone))
    rows = both.take(pa.array(place)).combine_chunks()
    return _as_written(rows, stage)


def _as_written(rows: pa.Table, stage: str) -> pa.Table:
    """The rows as the stage's own writer would give them: Parquet reads lists and metadata otherwise than they were."""
    model = BY_NAME[stage].row
    assert model is not None, "only stages with rows have parts"
    empty = [
        name for name in model.only_if_measured if name in rows.column_names and rows[name].null_count == len(rows)
    ]
    rows, schema = rows.drop_columns(empty), arrow_schema(model)
    if not set(rows.column_names) <= set(schema.names):  # of another version
        return rows
    fields = [schema.field(name) for name in rows.column_names]
    return rows.cast(pa.schema(fields, metadata=schema.metadata))


def _keys(build: Build, stage: str, part: int) -> list[str]:
    keys: list[str] = build.read_table(part_file(stage, part), columns=["key"])["key"].to_pylist()
    return keys


def _remove_bytes(build: Build, part: int, keys: Set[str], removed: Counter[str]) -> dict[str, int]:
    """Take the records' bytes out of fetch's tar, and out of one that an earlier run left; where the others lie now."""
    offsets: dict[str, int] = {}
    for file in (f"{part_tar('fetch', part)}.before", part_tar("fetch", part)):
        if build.exists(file):
            contents = drop_members(build, file, keys)
            removed["pictures"] += contents.dropped
            removed["bytes"] += contents.dropped_bytes
            offsets = contents.offsets
    return offsets


def _remove_from_part(
    build: Build, stage: str, part: int, keys: Set[str], offsets: Mapping[str, int], removed: Counter[str]
) -> None:
    file = part_file(stage, part)
    table = build.read_table(file)
    with reading(build, file):
        left = without_content(table, stage, keys)
        rows = _at_offsets(table if left is None else left, offsets) if offsets else left
    if rows is not None and not rows.equals(table):
        build.write_table(file, rows)
        removed["rows"] += 0 if left is None else len(keys & set(table["key"].to_pylist()))


def _at_offsets(rows: pa.Table, offsets: Mapping[str, int]) -> pa.Table:
    """The rows of fetch with the places that their bytes have in the tar now."""
    names = zip(*(rows[name].to_pylist() for name in ("key", "ext", "offset")), strict=True)
    places = [None if was is None else offsets.get(f"{key}.{ext}", was) for key, ext, was in names]
    at = rows.schema.get_field_index("offset")
    return rows.set_column(at, rows.schema.field(at), pa.array(places, pa.int64()))


def _remove_from_journals(
    build: Build, part: int, keys: Set[str], tombstones: Tombstones, fetch: FetchConfig | None, removed: Counter[str]
) -> None:
    """What downloads left beside the tar. Its header is a hash of the records' URLs: it is made for the ones left."""
    path = build.local_path(part_journal(part))
    if path is None:  # segments of downloads in a store; a partition that is done needs none
        build.remove(part_journal(part))
        return
    exchanged: Mapping[str, str] = {}
    if fetch and path.exists():
        records = build.read_rows("collect", part, SourceRecord)
        left = [tombstones.applied(record) for record in records]
        exchanged = {journal_hash(records, fetch): journal_hash(left, fetch)}
    for journal in (path, Path(f"{path}.before")):
        if journal.exists():
            removed["journal entries"] += drop_entries(
                journal, lambda entry: entry["key"] in keys or entry.get("sha256") in tombstones.pictures, exchanged
            )


def _blacken(build: Build, part: int, keys: Set[str], removed: Counter[str]) -> None:
    file = part_miniatures(part)
    gone = [at for at, key in enumerate(_keys(build, "collect", part)) if key in keys]
    with reading(build, file):
        miniatures = read_npy(build.read_bytes(file)).copy()
        if len(miniatures) <= max(gone):
            raise DamagedFile(build, file, "has fewer miniatures than its partition has rows")
    if miniatures[gone].any():
        removed["miniatures"] += int(miniatures[gone].any(axis=(1, 2, 3)).sum())
        miniatures[gone] = 0
        array = io.BytesIO()
        np.save(array, miniatures, allow_pickle=False)
        build.write_bytes(file, array.getvalue())


def _transient(build: Build, marker: Marker) -> dict[str, object]:
    """How many rows the next run tries again: a removed one is not among them."""
    if not marker.transient:
        return {}
    rows = build.read_table(part_file(marker.stage, marker.part), columns=["transient"])["transient"].to_pylist()
    return {"transient": sum(map(bool, rows))}


def _remove_from_pages(build: Build, tombstones: Tombstones, removed: Counter[str]) -> None:
    """Saved pages of a collect that is not done."""
    for name in build.listdir(PAGES):
        rows = page_rows(build, name)
        gone = [at for at, row in enumerate(rows) if _is_gone(row, tombstones)]
        if not gone:
            continue
        document = untrusted_json.parse(build.read_bytes(f"{PAGES}/{name}"))
        for at in gone:
            left = SourceRecord(**stub(rows[at]["key"]), source=str(rows[at].get("source")), source_id="")
            rows[at] = left.model_dump(mode="json")
        build.write_json(f"{PAGES}/{name}", document | {"records": rows})
        removed["saved records"] += len(gone)


def _is_gone(row: dict[str, object], tombstones: Tombstones) -> bool:
    names = (row.get(name) for name in ("url", "page_url", "author", "source"))
    url, page, author, source = (value if isinstance(value, str) else None for value in names)
    return row.get("reason") != Reason.FORGOTTEN and any(tombstones.matches(str(row["key"]), url, page, author, source))


def _remove_repeats(build: Build, keys: Set[str], removed: Counter[str]) -> None:
    """Further prompts of records that came often. The file stays, if empty: dedup has read it."""
    if not build.exists(REPEATS):
        return
    with reading(build, REPEATS):
        repeats = json.loads(build.read_bytes(REPEATS))
        left = {key: prompts for key, prompts in repeats.items() if key not in keys}
    if len(left) < len(repeats):
        build.write_json(REPEATS, left)
        removed["repeated prompts"] += len(repeats) - len(left)


def _remove_selected(build: Build, keys: Set[str], removed: Counter[str]) -> None:
    if not build.exists(SELECTION):
        return
    table = build.read_table(SELECTION)
    with reading(build, SELECTION):
        left = table.filter(pa.array([key not in keys for key in table["key"].to_pylist()], pa.bool_()))
    if len(left) < len(table):
        build.write_table(SELECTION, left)
        removed["selected"] += len(table) - len(left)
