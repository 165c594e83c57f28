"""Image shards: which samples belong in which, and how tars, index and manifest are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build, HashingFile, part_file
from surd.pipeline.models import Models
from surd.schemas import (
    Cleaned,
    Corrected,
    Pair,
    Safe,
    Sample,
    Selected,
    ShardInfo,
    ShardManifest,
    SourceRecord,
    arrow_schema,
)
from surd.schemas.config import PackConfig
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import CAPTIONS, dump_captions, parse_captions
from surd.schemas.shard_format.tar import add_member, tar_writer

_SCORES = ("clip_simple", "clip_complex", "text_simple", "sharpness", "nsfw_image", "nsfw_text")
_INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),  # of the image's bytes in the shard
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("simple", pa.string()),
        ("complex", pa.string()),
        *((score, pa.float64()) for score in _SCORES),
    ]
)
#: The last column of the index where any sample has several captions; null of one that has none.
_CAPTIONS = pa.field("captions", pa.list_(pa.struct([*arrow_schema(Caption)])))


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A selected sample, its scores, its captions where it has several, and where its bytes lie."""

    part: int
    pair: Pair
    sample: Sample
    scores: dict[str, float | None]
    captions: Sequence[Caption] = ()


def planned_shards(build: Build, settings: PackConfig) -> Iterator[tuple[str, list[Planned]]]:
    """The name of each shard and the samples that belong in it."""
    planned = sorted(_selected(build), key=lambda item: item.pair.key)
    for number, group in enumerate(_groups(planned, settings)):
        yield f"surd-{number:05d}.tar", group


def write_samples(build: Build, file: HashingFile, name: str, group: list[Planned]) -> list[dict[str, object]]:
    """Write the tar of one shard; returns its rows of the index."""
    index = []
    with tar_writer(file) as tar:
        for item, data in zip(group, _read(build, group), strict=True):
            offset = add_member(tar, f"{item.pair.key}.{item.pair.ext}", data)
            index.append(_index_row(item, name, offset))
            add_member(tar, f"{item.pair.key}.simple.txt", item.sample.simple.encode())
            add_member(tar, f"{item.pair.key}.complex.txt", item.sample.complex.encode())
            add_member(tar, f"{item.pair.key}.json", item.sample.model_dump_json().encode())
            if item.captions:
                add_member(tar, f"{item.pair.key}.{CAPTIONS}", dump_captions(item.captions).encode())
    return index


def describe_shards(
    build: Build, shards: list[ShardInfo], index: list[dict[str, object]], models: Models, folder: str = "shards"
) -> None:
    """Write ``index.parquet``, a row group a shard so that each can be read alone, and ``manifest.json``."""
    has_captions = any(row.get(_CAPTIONS.name) for row in index)
    table = pa.Table.from_pylist(index, schema=_INDEX.append(_CAPTIONS) if has_captions else _INDEX)
    build.write_table(f"{folder}/index.parquet", table, row_groups=[shard.count for shard in shards])
    count = sum(shard.count for shard in shards)
    manifest = ShardManifest(count=count, diffusion=models.config.diffusion, shards=shards)
    build.write_json(f"{folder}/manifest.json", manifest)


def _selected(build: Build) -> Iterator[Planned]:
    for part in range(build.part_count()):
        rows = zip(
            build.read_rows("select", part, Selected),
            build.read_rows("collect", part, SourceRecord),
            build.read_rows("fetch", part, Pair),
            build.read_rows("clean", part, Cleaned),
            build.read_rows("safety", part, Safe),
            _quality(build, part),
            build.read_rows("correct", part, Corrected),
            strict=True,
        )
        for selected, record, pair, cleaned, safe, sharpness, corrected in rows:
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
                known = {**safe.model_dump(), "sharpness": sharpness, **corrected.model_dump()}
                yield Planned(
                    part=part,
                    pair=pair,
                    sample=sample,
                    scores={name: known[name] for name in _SCORES},
                    captions=_captions(build, part, corrected),
                )


def _captions(build: Build, part: int, corrected: Corrected) -> list[Caption]:
    try:
        return parse_captions(corrected.captions.encode("utf-8", "surrogatepass")) if corrected.captions else []
    except ValueError as error:
        file = part_file("correct", part)
        raise DamagedFile(build, file, f"is not valid (captions of {corrected.key}: {error})") from None


def _quality(build: Build, part: int) -> list[float | None]:
    """Sharpness of each row; the embeddings beside it are not wanted here, and large."""
    found: list[float | None] = build.read_table(part_file("score", part), ["sharpness"])["sharpness"].to_pylist()
    return found


def _groups(planned: list[Planned], settings: PackConfig) -> Iterator[list[Planned]]:
    group: list[Planned] = []
    size = 0
    for item in planned:
        if group and (len(group) >= settings.max_count or size + (item.pair.size or 0) > settings.max_bytes):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.pair.size or 0
    if group:
        yield group


def _read(build: Build, group: list[Planned]) -> Iterator[bytes]:
    """Bytes of the group's images in order."""
    return build.images_of((item.part, item.pair) for item in group)


def _index_row(item: Planned, shard: str, offset: int) -> dict[str, object]:
    where = {"shard": shard, "offset": offset, "size": item.pair.size}
    row = where | item.scores | item.sample.model_dump(include={"key", "sha256", "simple", "complex"})
    return row | {_CAPTIONS.name: [caption.model_dump() for caption in item.captions]} if item.captions else row
