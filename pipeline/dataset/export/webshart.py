"""webshart: a JSON index a shard over the tars as they lie, and a SimpleTuner config that reads them so.

An index says where in the tar each picture is, how large it is, and its captions; no picture is copied. A shard's
``{key}.simple.txt`` is not listed: webshart would take it for a sample of its own.
https://github.com/bghira/webshart
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import ShardSamples
from surd.pipeline.dataset.export.caption_lines import caption_lines
from surd.pipeline.dataset.export.options import TrainerOptions
from surd.pipeline.dataset.export.simpletuner import BACKENDS, backends
from surd.pipeline.dataset.export.trainer_folder import TrainerFolder, checked_key, write_record
from surd.pipeline.dataset.reader import StoredSample, read_manifest


def write_indexes(
    build: Build, out: Build, parts: Iterator[ShardSamples], *, options: TrainerOptions, root: str
) -> None:
    """Write ``surd-NNNNN.json`` for each ``surd-NNNNN.tar``. Raises SurdError."""
    shards = read_manifest(build).shards
    count, names = 0, []
    for part in parts:
        shard = shards[part.number]
        files = {each.file_name: _entry(each, options) for each in part.samples}
        index = {
            "path": shard.name,
            "filesize": shard.bytes,
            "hash": shard.sha256,
            "includes_image_geometry": True,
            "files": files,
        }
        names.append(f"{shard.name.removesuffix('.tar')}.json")
        out.write_bytes(names[-1], json.dumps(index, ensure_ascii=False).encode())
        count += len(files)
    folder = TrainerFolder(root=root, resolution=options.resolution, several=False, lines=1, prompts=())
    tars = build.local_path("shards")
    where = {
        "type": "webshart",
        "source": str(tars.absolute()) if tars else build.path("shards"),
        "metadata": folder.root,
        "caption_strategy": "webshart",
        "metadata_backend": "webshart",
        "webshart": {"cache_dir": f"{folder.cache}/webshart", "shard_cache_gb": 0},
    }
    out.write_bytes(BACKENDS, backends(folder, where).encode())
    write_record(out, "webshart", options, count, [*names, BACKENDS])


def _entry(each: StoredSample, options: TrainerOptions) -> dict[str, Any]:
    checked_key(each.sample.key)
    width, height = each.sample.width, each.sample.height
    lines = caption_lines(each, options)
    return {
        "offset": each.offset,
        "length": len(each.image),
        "sha256": each.sample.sha256,
        "width": width,
        "height": height,
        "aspect": round(width / height, 6),
        "captions": lines if len(lines) > 1 else lines[0],
    }
