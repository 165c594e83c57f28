"""Image shards: which samples belong in which, and how tars, index and manifest are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build, HashingFile, part_file
from surd.pipeline.dataset.layout import PLANNED, arrange, content_hash, shard_name, write_stored
from surd.pipeline.models import Models
from surd.pipeline.tables import Documents, Tables
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
from surd.schemas.shard_format.tar import BLOCK, add_member, padded, tar_writer

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


class Planned(BaseModel):
    """A selected sample, its scores, its captions where it has several, and where its bytes lie."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")
    part: int
    pair: Pair
    sample: Sample
    scores: dict[str, float | None]
    captions: Sequence[Caption] = ()

    def texts(self) -> list[tuple[str, bytes]]:
        """Name and bytes of its members in a shard, but for the picture, which comes first."""
        key = self.pair.key
        texts = [
            (f"{key}.simple.txt", self.sample.simple.encode()),
            (f"{key}.complex.txt", self.sample.complex.encode()),
            (f"{key}.json", self.sample.model_dump_json().encode()),
        ]
        return [*texts, (f"{key}.{CAPTIONS}", dump_captions(self.captions).encode())] if self.captions else texts

    @property
    def picture(self) -> str:
        """Name of its picture in a shard."""
        return f"{self.pair.key}.{self.pair.ext}"

    @property
    def content(self) -> str:
        """A hash of all its members: the same as long as its place in a shard would hold the same bytes."""
        hashes = [(name, hashlib.sha256(data).hexdigest()) for name, data in self.texts()]
        return content_hash([(self.picture, self.pair.sha256 or ""), *hashes])


class Plan:
    """Every selected sample, in the shard that it belongs in; the samples lie on disk.

    ``kept``: name -> name so far of each shard that keeps its tar; ``captions``: how many samples have several.
    """

    def __init__(self, tables: Tables, documents: Documents, kept: Mapping[str, str], captions: int) -> None:
        self._tables, self._documents = tables, documents
        self.kept, self.captions = kept, captions

    def shards(self) -> Iterator[tuple[str, list[Planned]]]:
        """The name of each shard and its samples, in key order."""
        for number, rows in groupby(self._tables.rows("placed"), itemgetter("number")):
            group = [self._documents.read(row["document"], row["length"]) for row in rows]
            yield shard_name(number), [Planned.model_validate_json(document) for document in group]


@contextmanager
def planning(
    build: Build, settings: PackConfig, tables: Tables, there: Mapping[str, ShardInfo] | None = None
) -> Iterator[Plan]:
    """Plan the shards of a build that has the shards ``there``; of None: as it was packed, whatever is there."""
    with Documents(tables.file("documents")) as documents:
        captions = 0
        with tables.writing("planned", PLANNED) as planned:
            for item in _selected(build):
                captions += bool(item.captions)
                offset, length = documents.add(item.model_dump_json().encode())
                row = {"key": item.pair.key, "size": item.pair.size or 0, "content": item.content}
                planned.add({**row, "document": offset, "length": length})
        documents.flush()
        write_stored(build, tables, there)
        kept = {shard_name(new): shard_name(old) for new, old in arrange(tables, settings).items()}
        yield Plan(tables, documents, kept, captions)


def index_rows(name: str, group: Sequence[Planned]) -> list[dict[str, object]]:
    """A shard's rows of the index."""
    rows, start = [], 0
    for item in group:
        rows.append(_index_row(item, name, start + BLOCK))
        sizes = [item.pair.size or 0, *(len(data) for _, data in item.texts())]
        start += sum(BLOCK + padded(size) for size in sizes)
    return rows


def write_samples(build: Build, file: HashingFile, group: Sequence[Planned]) -> None:
    """Write the tar of one shard."""
    with tar_writer(file) as tar:
        for item, data in zip(group, build.images_of((item.part, item.pair) for item in group), strict=True):
            add_member(tar, item.picture, data)
            for member, text in item.texts():
                add_member(tar, member, text)


@contextmanager
def writing_index(build: Build, folder: str, *, captions: bool) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """``index.parquet``, a row group a shard so that each can be read alone; takes the rows of one after the other."""
    schema = _INDEX.append(_CAPTIONS) if captions else _INDEX
    with (
        build.writing(f"{folder}/index.parquet") as file,
        pq.ParquetWriter(pa.PythonFile(file, mode="w"), schema, compression="zstd") as writer,
    ):
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def write_manifest(build: Build, shards: list[ShardInfo], models: Models, folder: str = "shards") -> None:
    """Write ``manifest.json``."""
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
                captions = _captions(build, part, corrected)
                if (
                    selected.simple_by_hand and captions
                ):  # the sentence that it takes the place of is not among them any more
                    others = (one for one in captions if one.text not in (corrected.simple, selected.simple_by_hand))
                    captions = [Caption(name="simple", text=selected.simple_by_hand), *others]
                corrected = selected.applied(corrected)
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
                    captions=captions,
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


def _index_row(item: Planned, shard: str, offset: int) -> dict[str, object]:
    where = {"shard": shard, "offset": offset, "size": item.pair.size}
    row = where | item.scores | item.sample.model_dump(include={"key", "sha256", "simple", "complex"})
    return row | {_CAPTIONS.name: [caption.model_dump() for caption in item.captions]} if item.captions else row
