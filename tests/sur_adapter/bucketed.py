"""A column of latents in aspect-ratio buckets for a tiny build: random latents of pictures of many shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from surd.schemas.manifest import Buckets, ColumnManifest
from surd.schemas.shard_format.buckets import DIGITS, Size, SizeAndCrop, bucket_sizes, nearest_bucket, size_and_crop
from tests.sur_adapter.conftest import SIZE, npy, write_tar

NAME, SCALE = "latents-buckets", 4
SIZES = bucket_sizes(SIZE, SCALE)
#: Width and height of the pictures, in turn: squares, 3:2 lying and standing, and 16:9.
PICTURES = [(600, 600), (750, 500), (500, 750), (1600, 900), (600, 600), (750, 500)]


def picture_of(shard: int, index: int) -> tuple[int, int]:
    """Width and height of a sample's picture."""
    return PICTURES[(shard + index) % len(PICTURES)]


def about(shard: int, index: int, sizes: list[Size] = SIZES) -> SizeAndCrop:
    """Size and crop of a sample's picture."""
    picture = picture_of(shard, index)
    return size_and_crop(*picture, sizes[nearest_bucket(*picture, sizes)])


def members_of(build: Any, shard: int, sizes: list[Size] = SIZES) -> dict[str, bytes]:
    """The members of a shard's tar."""
    random = np.random.default_rng(shard)
    members = {}
    for index, key in enumerate(build.keys(shard)):
        size = about(shard, index, sizes)
        latents = random.standard_normal((8, size.height // SCALE, size.width // SCALE)).astype(np.float16)
        members |= {f"{key}.npy": npy(latents), f"{key}.size.npy": npy(np.array(size, np.int32))}
    return members


def add_buckets(build: Any, sizes: list[Size] = SIZES) -> Path:
    """Write the column; returns its folder."""
    folder = Path(build.root / "columns" / NAME)
    infos, numbers = [], []
    for shard in range(build.shards):
        tar = folder / f"surd-{shard:05d}.tar"
        infos.append(write_tar(tar, members_of(build, shard, sizes), build.count))
        pictures = (picture_of(shard, index) for index in range(build.count))
        numbers.append("".join(DIGITS[nearest_bucket(*picture, sizes)] for picture in pictures))
    fields = {
        "column": NAME, "kind": "latents", "model": str(build.base), "revision": "0", "shape": [8, None, None],
        "width": 0, "dtype": "float16", "image_size": SIZE, "scaling_factor": 0.2, "count": build.shards * build.count,
        "shards": infos, "buckets": Buckets(sizes=sizes, scale=SCALE, numbers=numbers),
    }  # fmt: skip
    document = ColumnManifest.model_validate(fields)
    (folder / "manifest.json").write_text(document.model_dump_json())
    return folder
