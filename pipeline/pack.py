"""pack: turns the selected samples into webdataset shards, in key order, with an index and a manifest."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.build import Build, add_member
from pipeline.models import Models
from schemas import Cleaned, Corrected, Pair, Row, Sample, Selected, ShardInfo, ShardManifest, SourceRecord
from schemas.config import PackConfig

_INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),  # of the image's bytes in the shard
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("clip_simple", pa.float64()),
        ("clip_complex", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A selected sample and where its bytes lie."""

    part: int
    pair: Pair
    sample: Sample


def pack(build: Build, settings: PackConfig, models: Models) -> list[list[Row]]:
    """Write ``shards/``. Keys are hashes, so key order is a shuffle; the same input gives the same bytes."""
    build.remove("shards")
    planned = sorted(_selected(build), key=lambda item: item.pair.key)
    shards: list[ShardInfo] = []
    index: list[dict[str, object]] = []
    for number, group in enumerate(_groups(planned, settings)):
        name = f"surd-{number:05d}.tar"
        with build.writing(f"shards/{name}") as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
            for item, data in zip(group, _read(build, group), strict=True):
                add_member(tar, f"{item.pair.key}.{item.pair.ext}", data)
                index.append(_index_row(item, name, tar.offset - _padded(len(data))))
                add_member(tar, f"{item.pair.key}.simple.txt", item.sample.simple.encode())
                add_member(tar, f"{item.pair.key}.complex.txt", item.sample.complex.encode())
                add_member(tar, f"{item.pair.key}.json", item.sample.model_dump_json().encode())
        shards.append(ShardInfo(name=name, count=len(group), bytes=file.size, sha256=file.sha256))
    build.write_table("shards/index.parquet", pa.Table.from_pylist(index, schema=_INDEX))
    manifest = ShardManifest(count=len(planned), diffusion=models.config.diffusion, shards=shards)
    build.write_json("shards/manifest.json", manifest)
    return []


def _selected(build: Build) -> Iterator[_Planned]:
    for part in range(build.part_count()):
        rows = zip(
            build.read_rows("select", part, Selected),
            build.read_rows("collect", part, SourceRecord),
            build.read_rows("fetch", part, Pair),
            build.read_rows("clean", part, Cleaned),
            build.read_rows("correct", part, Corrected),
            strict=True,
        )
        for selected, record, pair, cleaned, corrected in rows:
            if selected.kept:
                sample = Sample.model_validate(
                    {
                        "key": pair.key,
                        "simple": corrected.simple,
                        "complex": cleaned.complex,
                        "method": corrected.method,
                        "clip_simple": corrected.clip_simple,
                        "clip_complex": corrected.clip_complex,
                        **pair.model_dump(include={"sha256", "ext", "width", "height", "negative_prompt", "tool"}),
                        **record.model_dump(include={"source", "source_id", "page_url", "author", "licence", "terms"}),
                    }
                )
                yield _Planned(part=part, pair=pair, sample=sample)


def _groups(planned: list[_Planned], settings: PackConfig) -> Iterator[list[_Planned]]:
    group: list[_Planned] = []
    size = 0
    for item in planned:
        if group and (len(group) >= settings.max_count or size + (item.pair.size or 0) > settings.max_bytes):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.pair.size or 0
    if group:
        yield group


def _read(build: Build, group: list[_Planned]) -> Iterator[bytes]:
    """Bytes of the group's images in order; each partition's tar is opened once and read at offsets."""
    readers = {part: build.image_reader(part) for part in sorted({item.part for item in group})}
    try:
        for item in group:
            yield readers[item.part].read(item.pair)
    finally:
        for reader in readers.values():
            reader.close()


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _index_row(item: _Planned, shard: str, offset: int) -> dict[str, object]:
    return {"shard": shard, "offset": offset, "size": item.pair.size} | item.sample.model_dump(
        include={"key", "sha256", "clip_simple", "clip_complex"}
    )
