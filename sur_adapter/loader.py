"""Turns a shard pattern into an endless, seeded stream of training batches: shards zipped by key with one column.

Nothing is unpickled and no tar member is ever written to disk: members are read into memory by name.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import fsspec
import numpy as np
import torch
from braceexpand import braceexpand
from PIL import Image, ImageOps
from pydantic import BaseModel, ValidationError
from torch import Tensor
from webdataset.tariterators import group_by_keys, tar_file_expander

from schemas.errors import SurdError
from schemas.manifest import ColumnManifest, ShardInfo, ShardManifest

IMAGE_SUFFIXES = ("png", "jpg", "webp")
SHUFFLE_BUFFER = 512
EXAMPLE_PATTERN = "data/demo/shards/surd-{00000..00003}.tar"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample as it lies in the shard: the image still encoded, ``llm`` [llm_width] float32 or None."""

    key: str
    shard: str
    simple: str
    complex: str
    image: bytes
    llm: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """``images_BCHW`` float32 in [-1, 1]; ``llm_BW`` float32 or None; prompts and keys as lists of B."""

    keys: list[str]
    simple: list[str]
    complex: list[str]
    images_BCHW: Tensor
    llm_BW: Tensor | None


class ShardDataset:
    """The shards a pattern names and, with ``llm``, the LLM column beside them that ``llm_column`` names.

    ``pattern`` is a path or fsspec URL in which braces name a range ("dir/shards/surd-{00000..00003}.tar"). No
    ``llm_column`` means the build's only one. Raises SurdError when the pattern matches nothing, when a shard or
    manifest is missing, and when the column is not there or is one of several.
    """

    def __init__(self, pattern: str, *, llm: bool = False, llm_column: str | None = None) -> None:
        self.shards = expand_pattern(pattern)
        self.root = posixpath.dirname(self.shards[0]) or "."
        self.build = posixpath.dirname(self.root) or (".." if self.root == "." else ".")
        self.manifest = _read_manifest(f"{self.root}/manifest.json", ShardManifest)
        self.column = self._find_llm_column(llm_column) if llm else None
        self._count = sum(self.shard_info(shard).count for shard in self.shards)
        if not self._count:
            raise SurdError(f"--shards: {pattern!r} holds no samples; select more pairs and pack again")

    def __len__(self) -> int:
        return self._count

    def shard_info(self, shard: str) -> ShardInfo:
        """The manifest's entry of one of ``self.shards``."""
        return _entry(self.manifest.shards, shard, f"{self.root}/manifest.json")

    def samples(self, seed: int, epoch: int) -> Iterator[Sample]:
        """Every sample once, in an order that (seed, epoch) alone decides: shards permuted, then buffer-shuffled."""
        random = np.random.default_rng([seed, epoch])
        buffer: list[Sample] = []
        for shard_number in random.permutation(len(self.shards)):
            for sample in self._read_shard(self.shards[shard_number]):
                if len(buffer) < SHUFFLE_BUFFER:
                    buffer.append(sample)
                    continue
                slot = int(random.integers(SHUFFLE_BUFFER))
                buffer[slot], sample = sample, buffer[slot]
                yield sample
        yield from (buffer[slot] for slot in random.permutation(len(buffer)))

    def llm_statistics(self, most: int = 4096) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [llm_width] of the column's first ``most`` vectors, in shard order."""
        folder = f"{self.build}/columns/{self.column.column}" if self.column else ""
        files = (f"{folder}/{posixpath.basename(shard)}" for shard in self.shards)
        vectors = np.stack(list(islice((vector for file in files for _, vector in self._read_column(file)), most)))
        return torch.from_numpy(vectors.mean(axis=0)), torch.from_numpy(vectors.std(axis=0)).clamp(min=1e-6)

    def batches(
        self, *, batch_size: int, image_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Endless batches of ``batch_size``, epoch after epoch; ``start`` counts batches already taken by each rank.

        Rank r takes every world-th sample beginning at the r-th, so ranks never share one and never run out.
        """
        stream = self._stream(seed, start * batch_size * world)
        while True:
            taken = list(islice(stream, batch_size * world))
            yield collate(taken[rank::world], image_size)

    def _stream(self, seed: int, position: int) -> Iterator[Sample]:
        epoch, skip = divmod(position, len(self))
        while True:
            yield from islice(self.samples(seed, epoch), skip, None)
            epoch, skip = epoch + 1, 0

    def _read_shard(self, shard: str) -> Iterator[Sample]:
        """Samples of one shard in its own order, zipped by key with the column."""
        samples = read_tar(shard, self.shard_info(shard).count)
        if self.column is None:
            yield from (_sample(members, shard, None) for members in samples)
            return
        file = f"{self.build}/columns/{self.column.column}/{posixpath.basename(shard)}"
        column = self._read_column(file)
        for members in samples:
            key, vector = next(column, ("no further member", None))
            if key != members["__key__"]:
                raise SurdError(f"{file}: {key} where {shard} has {members['__key__']}; embed again")
            yield _sample(members, shard, vector)
        if (surplus := next(column, None)) is not None:
            raise SurdError(f"{file}: {surplus[0]} after the last sample of {shard}; embed again")

    def _read_column(self, file: str) -> Iterator[tuple[str, np.ndarray]]:
        assert self.column is not None
        info = _entry(self.column.shards, file, f"{posixpath.dirname(file)}/manifest.json")
        for members in read_tar(file, info.count):
            key = members["__key__"]
            vector = read_npy(members.get("npy", b""), f"{file}: member {key}.npy").astype(np.float32)
            if vector.ndim not in (1, 2) or vector.shape[-1] != self.column.width:
                raise SurdError(f"{file}: member {key}.npy has shape {vector.shape}, not width {self.column.width}")
            if not np.isfinite(vector).all():
                raise SurdError(f"{file}: member {key}.npy holds NaN or infinity; embed again")
            yield key, vector.mean(axis=0) if vector.ndim == 2 else vector

    def _find_llm_column(self, wanted: str | None) -> ColumnManifest:
        filesystem, path = fsspec.core.url_to_fs(self.build)
        names = sorted(file.split("/")[-2] for file in filesystem.glob(f"{path}/columns/*/manifest.json"))
        manifests = [_read_manifest(f"{self.build}/columns/{name}/manifest.json", ColumnManifest) for name in names]
        found = [manifest for manifest in manifests if manifest.kind == "llm" and wanted in (None, manifest.column)]
        if len(found) == 1:
            return found[0]
        present = ", ".join(manifest.column for manifest in manifests if manifest.kind == "llm") or "none"
        problem = f"{self.build} has several" if wanted is None and found else f"{self.build} does not have it"
        raise SurdError(f"--llm-column: {wanted!r}, but {problem} (present: {present}); name one, or pass --w-llm 0")


def expand_pattern(pattern: str) -> list[str]:
    """Shard paths a brace pattern names, in order. SurdError when it matches nothing or one of them is missing."""
    try:
        shards = list(braceexpand(pattern))
    except ValueError as error:
        raise SurdError(f"--shards: {pattern!r} has unbalanced braces; write {EXAMPLE_PATTERN!r}") from error
    missing = [shard for shard in shards if not _exists(shard)]
    if len(missing) == len(shards):
        raise SurdError(f"--shards: {pattern!r} matches no file; give a build's shards, e.g. {EXAMPLE_PATTERN!r}")
    if missing:
        raise SurdError(f"--shards: {pattern!r} names {missing[0]}, which is not there; name only shards that are")
    return shards


def read_tar(path: str, count: int) -> Iterator[dict[str, Any]]:
    """Samples of a tar as webdataset groups them: {"__key__": key, suffix: bytes}. ``count`` is what it must hold.

    Only regular files are read. SurdError naming the file when it is damaged, repeats a member, or holds another count.
    """
    seen = 0
    try:
        with fsspec.open(path, "rb") as stream:
            for members in group_by_keys(tar_file_expander([{"url": path, "stream": stream}])):
                seen += 1
                yield members
    except FileNotFoundError as error:
        raise SurdError(f"{path}: there is no such file; build it again") from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise SurdError(f"{path}: damaged after {seen} samples ({error.args[0]}); build it again") from error
    if seen != count:
        raise SurdError(f"{path}: holds {seen} samples where its manifest says {count}; build it again")


def read_npy(data: bytes, where: str) -> np.ndarray:
    """An array from the bytes of an ``.npy`` file; SurdError naming ``where`` when it is anything but plain numbers.

    The header is checked against the bytes at hand before anything is allocated, and pickles are refused.
    """
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("not format 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind != "f" or size != len(data) - stream.tell():
            raise ValueError(f"it claims {shape} of {dtype}, which its bytes do not hold as floats")
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SurdError(f"{where} is not a plain array ({error}); embed again") from error


def collate(samples: list[Sample], image_size: int) -> Batch:
    """Decode and stack samples; images are resized and centre-cropped to ``image_size`` squared."""
    vectors = [torch.from_numpy(sample.llm) for sample in samples if sample.llm is not None]
    return Batch(
        keys=[sample.key for sample in samples],
        simple=[sample.simple for sample in samples],
        complex=[sample.complex for sample in samples],
        images_BCHW=torch.stack([_decode(sample, image_size) for sample in samples]),
        llm_BW=torch.stack(vectors) if vectors else None,
    )


def _decode(sample: Sample, size: int) -> Tensor:
    try:
        image = Image.open(io.BytesIO(sample.image)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SurdError(f"{sample.shard}: the image of {sample.key} cannot be read ({error}); pack it again") from error
    pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def _sample(members: dict[str, Any], shard: str, vector: np.ndarray | None) -> Sample:
    key = members["__key__"]
    image = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    texts = [members.get(name) for name in ("simple.txt", "complex.txt")]
    if image is None or None in texts:
        raise SurdError(f"{shard}: sample {key} lacks its image, simple.txt or complex.txt; pack it again")
    simple, complex_ = (text.decode("utf-8", errors="replace") for text in texts if text is not None)
    return Sample(key=key, shard=shard, simple=simple, complex=complex_, image=image, llm=vector)


def _entry(shards: list[ShardInfo], path: str, manifest: str) -> ShardInfo:
    name = posixpath.basename(path)
    for entry in shards:
        if entry.name == name:
            return entry
    raise SurdError(f"{manifest}: does not list {name}; build it again")


def _read_manifest(path: str, model: type[M]) -> M:
    try:
        with fsspec.open(path, "rb") as file:
            return model.model_validate_json(file.read())
    except FileNotFoundError as error:
        raise SurdError(f"{path}: there is no such file; it belongs to every build, so build it again") from error
    except ValidationError as error:
        raise SurdError(f"{path}: not a {model.__name__} ({error.errors()[0]['msg']}); build it again") from error


def _exists(path: str) -> bool:
    filesystem, inner = fsspec.core.url_to_fs(path)
    return bool(filesystem.isfile(inner))
