"""Stage pack: the selected samples as webdataset shards, in key order, with an index and a manifest."""

from __future__ import annotations

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.card import dataset_card
from surd.pipeline.dataset.shards import describe_shards, planned_shards, write_samples
from surd.pipeline.models import Models
from surd.schemas import BuildConfig, Row, ShardInfo


def pack(build: Build, config: BuildConfig, models: Models) -> list[list[Row]]:
    """Write ``shards/``. Keys are hashes, so key order is a shuffle; the same input gives the same bytes.

    They are written beside and take the old ones' place when all are whole. Raises SurdError, and the old ones stay,
    when an image is not as fetch wrote it.
    """
    shards: list[ShardInfo] = []
    index: list[dict[str, object]] = []
    extensions: set[str] = set()
    captions = 0
    with build.replacing("shards") as folder:
        for name, group in planned_shards(build, config.pack):
            with build.writing(f"{folder}/{name}") as file:
                index += write_samples(build, file, name, group)
            shards.append(ShardInfo(name=name, count=len(group), bytes=file.size, sha256=file.sha256))
            extensions |= {item.sample.ext for item in group}
            captions += sum(bool(item.captions) for item in group)
        describe_shards(build, shards, index, models, folder)
    build.write_bytes("README.md", dataset_card(len(index), extensions, captions=captions).encode())
    return []
