"""A build of synthetic pictures, shards and columns, written by the code that writes those of real builds."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.dataset.shards import Planned, index_rows, write_manifest, write_samples, writing_index
from surd.pipeline.models import Models
from surd.schemas import ColumnManifest, Pair, Sample, ShardInfo, ShardManifest, load_config
from surd.schemas.shard_format.tar import add_member
from tests.bench.memory import prompt

#: Column -> kind, text, shape and dtype: those of Stable Diffusion 1.5 and a 2,048 wide LLM.
COLUMNS = {
    "latents": ("latents", None, [8, 64, 64], "float16"),
    "clip-simple": ("clip", "simple", [77, 768], "float16"),
    "clip-complex": ("clip", "complex", [77, 768], "float16"),
    "llm-large-l20": ("llm", "simple", [2048], "float32"),
}
PICTURES = 8


def picture(rng: np.random.Generator) -> bytes:
    """A 512 pixel JPEG of about 90 KB: smooth colours with grain."""
    smooth = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((512, 512), Image.BICUBIC)
    grain = np.asarray(smooth).astype(int) + rng.integers(-12, 12, (512, 512, 3))
    buffer = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def plan(build: Build, seed: int, counts: list[int]) -> list[list[Planned]]:
    """The samples of each shard, in key order, with their pictures in a tar as written by fetch."""
    pictures = [picture(np.random.default_rng([seed, number])) for number in range(PICTURES)]
    words = random.Random(seed)
    keys = sorted(hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:16] for number in range(sum(counts)))
    planned = []
    with build.writing(part_tar("fetch", 0)) as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
        for number, key in enumerate(keys):
            data = pictures[number % PICTURES]
            add_member(tar, f"{key}.jpg", data)
            offset = tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            common = {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "ext": "jpg", "width": 512, "height": 512}
            sample = Sample(simple=prompt(words), complex=prompt(words) + ", best quality, sharp focus",
                            method="caption", source="synthetic", source_id=str(number), **common)  # fmt: skip
            pair = Pair(size=len(data), offset=offset, **common)
            planned.append(Planned(part=0, pair=pair, sample=sample, scores={}))
    ends = np.cumsum([0, *counts])
    return [planned[first:last] for first, last in pairwise(ends)]


def write_shards(build: Build, groups: list[list[Planned]]) -> None:
    """``shards/`` as pack writes it."""
    shards = []
    with writing_index(build, "shards", captions=False) as add_to_index:
        for number, group in enumerate(groups):
            name = f"surd-{number:05d}.tar"
            with build.writing(f"shards/{name}") as file:
                write_samples(build, file, group)
            add_to_index(index_rows(name, group))
            shards.append(ShardInfo(name=name, count=len(group), bytes=file.size, sha256=file.sha256))
    write_manifest(build, shards, Models(load_config({}).models))


def write_columns(build: Build, groups: list[list[Planned]]) -> None:
    """Random numbers of the columns' shapes, with the keys of the shards."""
    for name, (kind, text, shape, dtype) in COLUMNS.items():
        random_numbers = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        array = _npy(random_numbers)
        mask = _npy(np.ones(shape[0], np.uint8)) if kind == "clip" else None
        shards = []
        for number, group in enumerate(groups):
            path = f"columns/{name}/surd-{number:05d}.tar"
            with build.writing(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
                for item in group:
                    add_member(tar, f"{item.pair.key}.npy", array)
                    if mask:
                        add_member(tar, f"{item.pair.key}.mask.npy", mask)
            shards.append(ShardInfo(name=Path(path).name, count=len(group), bytes=file.size, sha256=file.sha256))
        layout = {"column": name, "kind": kind, "text": text, "shape": shape, "width": shape[-1], "dtype": dtype}
        rest = {"mask": mask is not None, "count": sum(map(len, groups)), "shards": shards}
        manifest = ColumnManifest.model_validate({"model": "synthetic", "revision": "0", **layout, **rest})
        build.write_json(f"columns/{name}/manifest.json", manifest)


def multiply(build: Build, to: Build, times: int) -> str:
    """A build of every shard ``times`` times, as hard links; returns its pattern."""
    original = ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json"))
    shards = []
    folder = Path(to.path("shards"))
    folder.mkdir(parents=True)
    for number in range(times * len(original.shards)):
        source = original.shards[number % len(original.shards)]
        shards.append(source.model_copy(update={"name": f"surd-{number:05d}.tar"}))
        (folder / shards[-1].name).hardlink_to(build.path(f"shards/{source.name}"))
    manifest = original.model_copy(update={"count": times * original.count, "shards": shards})
    to.write_json("shards/manifest.json", manifest)
    return f"{folder}/surd-{{00000..{len(shards) - 1:05d}}}.tar"


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
