"""Which records are to be removed: those that tombstones name, and their copies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.acquisition.tombstones import Tombstones, full_url
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.pipeline.stages.collect import PAGES
from surd.schemas import Reason

INDEX = "shards/index.parquet"
_PART = re.compile(r"part-(\d{5,})\.parquet")
_NAMED = ("key", "reason", "url", "page_url", "author", "source")


@dataclass(kw_only=True)
class Found:
    """A record to be removed. ``by``: the keys and hashes that name it; ``content``: whether more than a stub is there.

    ``part`` is None of a record that lies in no row yet, or in a dataset without its stages.
    """

    key: str
    part: int | None
    by: frozenset[str]
    content: bool
    url: str | None = None
    copy_of: str | None = None
    pictures: set[str] = field(default_factory=set)
    size: int = 0


def parts_of(build: Build, stage: str) -> list[int]:
    """The partitions of which a stage has rows, finished or not."""
    return sorted(int(match[1]) for name in build.listdir(stage) if (match := _PART.fullmatch(name)))


def find_records(build: Build, tombstones: Tombstones, *, copies: bool) -> dict[str, Found]:
    """Key -> each record that a tombstone names; with ``copies`` also those with the same picture as one of them.

    The same picture: the same bytes, or the same cluster of stage dedup. Rows are read one partition after another.
    """
    found = {one.key: one for one in _named(build, tombstones)}
    _look_up_pictures(build, found)
    while copies and (more := _copies(build, found)):
        found |= more
    return found


def _named(build: Build, tombstones: Tombstones) -> Iterator[Found]:
    for part, row in _records(build):
        url, page_url, author, source = (row.get(name) for name in ("url", "page_url", "author", "source"))
        if by := frozenset(tombstones.matches(row["key"], url, page_url, author, source)):
            content = row.get("reason") != Reason.FORGOTTEN
            yield Found(key=row["key"], part=part, by=by, content=content, url=full_url(source, url))


def _records(build: Build) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Every record's key and what may name it: of saved pages, of the rows, or else of a dataset's index."""
    for name in build.listdir(PAGES):
        for row in page_rows(build, name):
            yield None, row
    parts = parts_of(build, "collect")
    for part in parts:
        names = [name for name in _NAMED if name in columns_of(build, "collect", part)]
        for row in read_columns(build, "collect", part, names).to_pylist():
            yield part, row
    if not parts and build.exists(INDEX):
        for row in build.read_table(INDEX, columns=["key"]).to_pylist():
            yield None, row


def page_rows(build: Build, name: str) -> list[dict[str, Any]]:
    """The records of a page that an unfinished collect has saved; none of a file that is not one."""
    try:
        document = untrusted_json.parse(build.read_bytes(f"{PAGES}/{name}"))
        return [row for row in document["records"] if isinstance(row, dict) and isinstance(row.get("key"), str)]
    except (ValueError, LookupError, TypeError):
        return []


def _look_up_pictures(build: Build, found: dict[str, Found]) -> None:
    """Note what fetch says of the records' bytes."""
    for part in sorted({one.part for one in found.values() if one.part is not None}):
        for row in _pairs(build, part):
            if one := found.get(row["key"]):
                one.pictures |= {sha256 for sha256 in (row["sha256"], row.get("original_sha256")) if sha256}
                one.size = row["size"] or 0


def _pairs(build: Build, part: int) -> list[dict[str, Any]]:
    if not build.exists(part_file("fetch", part)):
        return []
    there = columns_of(build, "fetch", part)
    wanted = ["key", "sha256", "original_sha256", "size"]
    names = [name for name in wanted if name in there]
    rows: list[dict[str, Any]] = read_columns(build, "fetch", part, names).to_pylist()
    return rows


def _copies(build: Build, found: dict[str, Found]) -> dict[str, Found]:
    """Records that have a picture of ``found`` and are not among them."""
    owner = {sha256: one for one in found.values() for sha256 in one.pictures}
    clusters = {cluster: found[key] for key, cluster in _clusters(build, found.keys())}
    copies: dict[str, Found] = {}
    for part in parts_of(build, "fetch"):
        cluster_of = dict(_clusters_of(build, part)) if clusters else {}
        for row in _pairs(build, part):
            key, hashes = row["key"], {row["sha256"], row.get("original_sha256")} - {None}
            of = next((owner[sha256] for sha256 in sorted(hashes) if sha256 in owner), None)
            of = of or clusters.get(cluster_of.get(key, ""))
            if of and key not in found:
                copies[key] = Found(
                    key=key, part=part, by=of.by, content=True, pictures=hashes, size=row["size"] or 0, copy_of=of.key
                )
    _look_up_names(build, copies)
    return copies


def _clusters(build: Build, keys: Set[str]) -> Iterator[tuple[str, str]]:
    for part in parts_of(build, "dedup"):
        yield from ((key, cluster) for key, cluster in _clusters_of(build, part) if key in keys)


def _clusters_of(build: Build, part: int) -> Iterator[tuple[str, str]]:
    """Key and cluster of the rows that have one: of images, not of prompts."""
    if build.exists(part_file("dedup", part)):
        table = read_columns(build, "dedup", part, ["key", "cluster"])
        pairs = zip(table["key"].to_pylist(), table["cluster"].to_pylist(), strict=True)
        yield from ((key, cluster) for key, cluster in pairs if cluster)


def _look_up_names(build: Build, copies: dict[str, Found]) -> None:
    """Note the URLs of copies, whose tombstones name them."""
    for part in sorted({one.part for one in copies.values() if one.part is not None}):
        for row in read_columns(build, "collect", part, ["key", "url", "source"]).to_pylist():
            if one := copies.get(row["key"]):
                one.url = full_url(row["source"], row["url"])
