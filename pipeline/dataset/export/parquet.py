"""Writes ``data/train-NNNNN-of-NNNNN.parquet``, a file a shard, as ``datasets`` keeps a set with an ``Image`` feature.

Columns: ``image`` (bytes and path), ``text`` (the simple prompt), ``prompt`` (the complex one), then all else that is
known of a sample. https://huggingface.co/docs/datasets/image_dataset#parquet
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.folder import Build, HashingFile
from surd.pipeline.dataset.export import ShardSamples
from surd.pipeline.dataset.reader import StoredSample, fields_schema

_ROWS = 100  # of a row group: the Hub's viewer reads one at a time, and so do streams
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}


def parquet(build: Build, out: Build, parts: Iterator[ShardSamples]) -> None:
    first = pa.schema([("image", _IMAGE), ("text", pa.string()), ("prompt", pa.string())])
    schema = pa.schema([*first, *fields_schema(build)])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": _features(schema)}})})
    for part in parts:
        name = f"data/train-{part.number:05d}-of-{part.parts:05d}.parquet"
        with (
            out.writing(name) as file,
            pq.ParquetWriter(_Sink(file), schema, compression="zstd", use_dictionary=False) as writer,
        ):
            samples = iter(part.samples)
            while rows := [_row(each) for each in islice(samples, _ROWS)]:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))


class _Sink(io.RawIOBase):
    """A file of a build as Arrow writes to it."""

    def __init__(self, file: HashingFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.size


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The columns as ``datasets.Features`` writes them."""
    return {
        field.name: {"_type": "Image"} if field.type == _IMAGE else {"dtype": _DTYPES[field.type], "_type": "Value"}
        for field in schema
    }


def _row(each: StoredSample) -> dict[str, Any]:
    image = {"bytes": each.image, "path": each.file_name}
    return {"image": image, "text": each.sample.simple, "prompt": each.sample.complex} | each.fields()
