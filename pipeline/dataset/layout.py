"""Which shard each sample belongs in, when a build may have shards already.

Without shards: in key order, each shard as full as the config allows. With shards: a sample stays in the shard where it
lies, and a shard of which no sample went or changed keeps its tar. One that lost samples is written again, and if that
leaves it less than half full (in samples and in bytes), its samples are laid out with the new ones, in key order, as
are those of any other shard less than half full; so a few small shards never become many. Shards are numbered without
gaps: gaps are filled by the shards with the highest numbers, then by new ones; further new ones come behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.pipeline.tables import Tables
from surd.schemas import ShardInfo, SurdError
from surd.schemas.config import PackConfig
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.tar import InvalidTar, TarReader

LAYOUT = "pack/layout.parquet"
#: Of that file: ``tar`` is the sha256 of the shard, ``content`` that of the sample's members.
SCHEMA = pa.schema([("key", pa.string()), ("shard", pa.string()), ("tar", pa.string()), ("content", pa.string())])
PLANNED = pa.schema(
    [
        ("key", pa.string()),
        ("size", pa.int64()),  # of the picture
        ("content", pa.string()),
        ("document", pa.int64()),  # where the sample lies on disk, and how long it is
        ("length", pa.int64()),
    ]
)
_STORED = pa.schema([("key", pa.string()), ("shard", pa.int32()), ("content", pa.string())])


@dataclass(frozen=True)
class _Shard:
    """A shard that is there, what is left of its samples, and whether those are all it had, unchanged."""

    number: int
    count: int
    size: int
    whole: bool

    def fits(self, settings: PackConfig) -> bool:
        return self.count <= settings.max_count and (self.size <= settings.max_bytes or self.count == 1)

    def is_half_full(self, settings: PackConfig) -> bool:
        return 2 * self.count >= settings.max_count or 2 * self.size >= settings.max_bytes


def shard_name(number: int) -> str:
    """The name of a shard's tar."""
    return f"surd-{number:05d}.tar"


def content_hash(members: Iterable[tuple[str, str]]) -> str:
    """Of a sample's members: their names and the sha256 of each."""
    return hashlib.sha256("\n".join(f"{name} {sha256}" for name, sha256 in members).encode()).hexdigest()


def shards_there(build: Build) -> dict[str, ShardInfo]:
    """The shards whose tars are there and as long as the manifest says; none if it is missing or not valid."""
    build.put_back("shards")
    if not build.exists("shards/manifest.json"):
        return {}
    try:
        shards = shard_manifest(build).shards
    except SurdError:
        return {}
    named = {shard_name(number): shard for number, shard in enumerate(shards)}
    return {
        name: shard
        for name, shard in named.items()
        if shard.name == name and build.exists(f"shards/{name}") and build.size(f"shards/{name}") == shard.bytes
    }


def write_stored(build: Build, tables: Tables, shards: Mapping[str, ShardInfo] | None) -> None:
    """Table ``stored``: the samples of these shards and their contents; of None: of the layout, whatever is there.

    A build that was packed before layouts were noted has none: its tars are read.
    """
    known: set[str] = set()
    with tables.writing("stored", _STORED) as stored:
        for row in _noted(build):
            if shards is None or (row["shard"] in shards and shards[row["shard"]].sha256 == row["tar"]):
                known.add(row["shard"])
                stored.add({"key": row["key"], "shard": _number(row["shard"]), "content": row["content"]})
        for name in sorted((shards or {}).keys() - known):
            for key, content in _contents(build, f"shards/{name}"):
                stored.add({"key": key, "shard": _number(name), "content": content})


def arrange(tables: Tables, settings: PackConfig) -> dict[int, int]:
    """Table ``placed``: the samples of ``planned`` by number of their shard and key, beside ``stored``.

    Returns new number -> old number of each shard that keeps its tar.
    """
    tables.make(
        "fates",
        """SELECT s.shard AS number, count(p.key) AS count, coalesce(sum(p.size), 0)::BIGINT AS size,
                  count(*) = count(*) FILTER (p.content = s.content) AS whole
           FROM stored s LEFT JOIN planned p ON p.key = s.key GROUP BY s.shard ORDER BY s.shard""",
    )
    tables.make("added", "SELECT key FROM planned ANTI JOIN stored USING (key)")
    shards = _staying([_Shard(**row) for row in tables.rows("fates")], bool(tables.count("added")), settings)
    _write_numbers(tables, "staying", {shard.number: shard.number for shard in shards})
    tables.make(
        "loose",
        """SELECT p.key, p.size, p.document, p.length
           FROM planned p LEFT JOIN stored s ON s.key = p.key LEFT JOIN staying t ON t.shard = s.shard
           WHERE t.number IS NULL ORDER BY p.key""",
    )
    schema = pa.schema([("key", pa.string()), ("shard", pa.int32()), ("document", pa.int64()), ("length", pa.int64())])
    groups = 0
    with tables.writing("grouped", schema) as grouped:
        for groups, group in enumerate(_groups(tables.rows("loose"), settings), 1):
            for row in group:
                document = {"document": row["document"], "length": row["length"]}
                grouped.add({"key": row["key"], "shard": groups - 1, **document})
    moved, new = _numbers([shard.number for shard in shards], groups)
    _write_numbers(tables, "moved", moved)
    _write_numbers(tables, "new", dict(enumerate(new)))
    tables.make(
        "placed",
        """SELECT m.number, p.key, p.document, p.length
           FROM planned p JOIN stored s ON s.key = p.key JOIN moved m ON m.shard = s.shard
           UNION ALL SELECT n.number, g.key, g.document, g.length FROM grouped g JOIN new n ON n.shard = g.shard
           ORDER BY 1, 2""",
    )
    return {moved[shard.number]: shard.number for shard in shards if shard.whole}


def _staying(shards: Sequence[_Shard], more: bool, settings: PackConfig) -> list[_Shard]:
    """The shards whose samples stay together; ``more``: there are samples that lie in none yet."""
    staying = [one for one in shards if one.fits(settings) and (one.whole or one.is_half_full(settings))]
    loose = sum(one.count for one in shards) - sum(one.count for one in staying)
    return [one for one in staying if one.is_half_full(settings)] if more or loose else staying


def _groups(rows: Iterable[dict[str, Any]], settings: PackConfig) -> Iterator[list[dict[str, Any]]]:
    """Rows, in their order, in shards as full as the config allows."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if group and (len(group) >= settings.max_count or size + row["size"] > settings.max_bytes):
            yield group
            group, size = [], 0
        group.append(row)
        size += row["size"]
    if group:
        yield group


def _numbers(staying: Sequence[int], new: int) -> tuple[dict[int, int], list[int]]:
    """Number -> new number of the staying shards, and the numbers of the new ones: together without a gap."""
    total = len(staying) + new
    free = sorted({*range(total)} - {*staying})
    beyond = [number for number in staying if number >= total]
    moved = {number: number for number in staying if number < total} | dict(zip(beyond, free, strict=False))
    return moved, free[len(beyond) :]


def _write_numbers(tables: Tables, name: str, numbers: Mapping[int, int]) -> None:
    with tables.writing(name, pa.schema([("shard", pa.int32()), ("number", pa.int32())])) as writer:
        for shard, number in numbers.items():
            writer.add({"shard": shard, "number": number})


def _number(name: str) -> int:
    return int(name.removeprefix("surd-").removesuffix(".tar"))


def _noted(build: Build) -> Iterator[dict[str, Any]]:
    if build.exists(LAYOUT):
        with reading(build, LAYOUT), build.open(LAYOUT) as file:
            # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26).
            for batch in pq.ParquetFile(file).iter_batches(4096, columns=SCHEMA.names, use_threads=False):
                yield from batch.to_pylist()


def _contents(build: Build, file: str) -> Iterator[tuple[str, str]]:
    """Key and content of each sample of a tar; nothing if the tar is not valid."""
    try:
        with build.open(file) as opened:
            members = [(one.name, hashlib.sha256(one.data).hexdigest()) for one in TarReader(opened, build.size(file))]
    except InvalidTar:
        return
    for key, of_sample in groupby(members, lambda member: member[0].partition(".")[0]):
        sample = list(of_sample)
        if sample[0][0].partition(".")[2] in IMAGE_SUFFIXES:
            yield key, content_hash(sample)
