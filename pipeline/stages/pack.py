"""Stage pack: the selected samples as webdataset shards with an index and a manifest.

A build that has shards keeps those of which no sample went or changed: see ``pipeline/dataset/layout.py``.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import scratch
from surd.pipeline.dataset.card import dataset_card
from surd.pipeline.dataset.layout import LAYOUT, SCHEMA, shards_there
from surd.pipeline.dataset.shards import Planned, index_rows, planning, write_manifest, write_samples, writing_index
from surd.pipeline.models import Models
from surd.schemas import BuildConfig, Row, ShardInfo


def pack(build: Build, config: BuildConfig, models: Models) -> list[list[Row]]:
    """Write ``shards/``. Keys are hashes, so key order is a shuffle; the same input and shards give the same bytes.

    They are written beside and take the old ones' place when all are whole. Raises SurdError, and the old ones stay,
    when an image is not as fetch wrote it.
    """
    shards: list[ShardInfo] = []
    extensions: set[str] = set()
    there = shards_there(build)
    with scratch(build, "pack") as tables, planning(build, config.pack, tables, there) as plan:
        with (
            build.writing(LAYOUT) as file,
            pq.ParquetWriter(pa.PythonFile(file, mode="w"), SCHEMA, compression="zstd") as layout,
            build.replacing("shards", plan.kept) as folder,
        ):
            with writing_index(build, folder, captions=plan.captions > 0) as add_to_index:
                for name, group in plan.shards():
                    if name in plan.kept:
                        shard = there[plan.kept[name]].model_copy(update={"name": name})
                        build.record({f"{folder}/{name}": shard.sha256}, {f"{folder}/{name}": shard.bytes})
                    else:
                        with build.writing(f"{folder}/{name}") as tar:
                            write_samples(build, tar, group)
                        shard = ShardInfo(name=name, count=len(group), bytes=tar.size, sha256=tar.sha256)
                    add_to_index(index_rows(name, group))
                    layout.write_table(_layout(shard, group))
                    shards.append(shard)
                    extensions |= {item.sample.ext for item in group}
            write_manifest(build, shards, models, folder)
        count = sum(shard.count for shard in shards)
        build.write_bytes("README.md", dataset_card(count, extensions, captions=plan.captions).encode())
    return []


def _layout(shard: ShardInfo, group: list[Planned]) -> pa.Table:
    place = {"shard": shard.name, "tar": shard.sha256}
    return pa.Table.from_pylist([{"key": item.pair.key, "content": item.content, **place} for item in group], SCHEMA)
