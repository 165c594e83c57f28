"""Writes ``NNNNN.tar``, ``NNNNN.parquet`` and ``NNNNN_stats.json``, a shard each, as img2dataset leaves them.

The caption is the complex prompt, which made the image; the column ``simple`` holds the simple one.
https://github.com/rom1504/img2dataset#output-format
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import ShardSamples
from surd.pipeline.dataset.reader import StoredSample, fields_schema
from surd.schemas.shard_format.tar import add_member

_OWN = pa.schema(
    [
        *((name, pa.string()) for name in ("url", "caption", "simple", "status", "error_message")),
        ("original_width", pa.int64()),
        ("original_height", pa.int64()),
    ]
)


def img2dataset(build: Build, out: Build, parts: Iterator[ShardSamples]) -> None:
    schema = pa.schema([*_OWN, *fields_schema(build)])
    for part in parts:
        name = f"{part.number:05d}"
        rows: list[dict[str, Any]] = []
        with out.writing(f"{name}.tar") as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
            for each in part.samples:
                row = _row(each)
                rows.append(row)
                key = each.sample.key
                add_member(tar, f"{key}.{each.sample.ext}", each.image)
                add_member(tar, f"{key}.txt", each.sample.complex.encode())
                add_member(tar, f"{key}.json", json.dumps(row, ensure_ascii=False).encode())
        out.write_table(f"{name}.parquet", pa.Table.from_pylist(rows, schema=schema))
        out.write_json(f"{name}_stats.json", _stats(len(rows)))


def _row(each: StoredSample) -> dict[str, Any]:
    sample = each.sample
    return {
        "url": sample.page_url,
        "caption": sample.complex,
        "simple": sample.simple,
        "status": "success",
        "error_message": None,
        "original_width": sample.width,
        "original_height": sample.height,
    } | each.fields()


def _stats(count: int) -> dict[str, Any]:
    """Nothing was downloaded, so there are no times; with none, the same dataset gives the same bytes."""
    return {
        "count": count,
        "successes": count,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "duration": 0.0,
        "start_time": 0.0,
        "end_time": 0.0,
        "status_dict": {"success": count},
    }
