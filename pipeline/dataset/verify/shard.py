"""Checks the members of an image shard, as they come: names, order, texts, hashes, and what the index says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.reader import is_text
from surd.pipeline.images.header import sniff
from surd.pipeline.rejection import Rejected
from surd.schemas import Sample
from surd.schemas.shard_format.captions import CAPTIONS, parse_captions
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.pixels import open_image
from surd.schemas.shard_format.tar import TarMember

_NAME = re.compile(r"([0-9a-f]{16})\.(png|jpg|webp|simple\.txt|complex\.txt|json|captions\.json)")
_ORDER = ("image", "simple.txt", "complex.txt", "json")
_NEEDED = {"key": "text", "shard": "text", "offset": "a whole number", "size": "a whole number", "sha256": "text"}
_SAMPLE = "key", "sha256", "simple", "complex", "clip_simple", "clip_complex"
Fault = tuple[str, str]
"""A member's name and what is wrong with it."""


class Index:
    """``shards/index.parquet`` by shard. Columns that it lacks are not compared."""

    def __init__(self, table: pa.Table | None) -> None:
        self._table = table
        self._spans: dict[str, tuple[int, int]] = {}
        names = table["shard"].to_pylist() if table else []
        for row, name in enumerate(names):
            first, count = self._spans.get(name, (row, 0))
            self._spans[name] = first, count + 1

    @classmethod
    def read(cls, build: Build, file: str, counts: dict[str, int]) -> tuple[Index, list[str]]:
        """The index, and what is wrong with it as a whole: ``counts`` are the samples of each shard, in order."""
        try:
            table = build.read_table(file)
            table.validate(full=True)  # else text that is no UTF-8 is found only when it is asked for
        except DamagedFile as damage:
            return cls(None), [
                "it is not there" if damage.why == "is missing" else f"it is not a parquet file: it {damage.why}"
            ]
        except (OSError, ValueError, pa.ArrowException) as error:
            return cls(None), [f"it is not a parquet file ({' '.join(str(error).split())[:200]})"]
        if missing := [name for name in _NEEDED if name not in table.column_names]:
            return cls(None), [f"it has no column {missing[0]}"]
        for name, kind in _NEEDED.items():
            is_kind = pa.types.is_integer if kind == "a whole number" else is_text
            if not is_kind(table[name].type) or table[name].null_count:
                return cls(None), [f"its column {name} is not {kind} in every row"]
        index = cls(table)
        rows = {name: count for name, (_, count) in index._spans.items()}
        if rows != {name: count for name, count in counts.items() if count} or list(rows) != [
            name for name, count in counts.items() if count
        ]:
            return cls(None), [f"its {table.num_rows:,} rows are not the {sum(counts.values()):,} of the manifest"]
        times = table["key"].value_counts()
        twice = pc.filter(pc.struct_field(times, "values"), pc.greater(pc.struct_field(times, "counts"), 1))
        return index, [f"it lists {key} twice; a sample lies in one shard" for key in twice[:3].to_pylist()]

    def rows(self, shard: str) -> dict[str, dict[str, Any]] | None:
        """Key -> row of a shard's samples, in the order of the index; None if the index is damaged."""
        if self._table is None or shard not in self._spans:
            return None
        return {row["key"]: row for row in self._table.slice(*self._spans[shard]).to_pylist()}


class ShardChecker:
    """What the members of one shard must be: four a sample, keys ascending, texts and hashes as the JSON says.

    A fifth, its several captions, is optional.
    """

    def __init__(self, index: dict[str, dict[str, Any]] | None) -> None:
        self._index = index
        self._keys: list[str] = []
        self._sample: dict[str, TarMember] = {}
        self._faults: list[tuple[str | None, str]] = []

    def member(self, member: TarMember) -> Iterator[Fault]:
        """Take the next member; what is wrong with it, or with the sample that it ends."""
        match = _NAME.fullmatch(member.name)
        if not match:
            yield member.name, "it is not a file of a sample"
            return
        key, suffix = match.groups()
        if not self._keys or key != self._keys[-1]:
            yield from self._lacking()
            if self._keys and key < self._keys[-1]:
                yield member.name, f"it comes after {self._keys[-1]}; keys must ascend"
            self._keys.append(key)
            self._sample = {}
        kind = "image" if suffix in IMAGE_SUFFIXES else suffix
        if kind in self._sample:
            yield member.name, "its sample has two images"
        if len(self._sample) < 4 and kind != _ORDER[len(self._sample)]:
            yield member.name, f"it stands where the sample's {_ORDER[len(self._sample)]} belongs"
        self._sample[kind] = member
        if kind == CAPTIONS:
            yield from self._captions_faults(key, member)
        elif self._sample.keys() >= {*_ORDER}:
            yield from self._check(key)

    def end(self) -> tuple[list[str], list[tuple[str | None, str]]]:
        """The keys in their order, and what only the end shows."""
        faults: list[tuple[str | None, str]] = [*self._lacking()]
        if self._index is not None and list(self._index) != self._keys:
            odd = set(self._index) ^ set(self._keys)
            where = min(odd) if odd else "the order"
            faults.append((None, f"index.parquet lists other samples than it holds: {where}"))
        return self._keys, faults

    def _lacking(self) -> Iterator[Fault]:
        if self._keys and (lacks := [kind for kind in _ORDER if kind not in self._sample]):
            yield self._keys[-1], f"the sample has no {lacks[0]}"
        row = self._row(self._keys[-1]) if self._keys else None
        if row is not None and row.get("captions") and CAPTIONS not in self._sample:
            yield self._keys[-1], f"the sample has no {CAPTIONS}, and index.parquet lists captions of it"

    def _check(self, key: str) -> Iterator[Fault]:
        """One whole sample."""
        document = self._sample["json"]
        try:
            sample = Sample.model_validate_json(document.data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            yield document.name, f"it is not a valid Sample: {field + ': ' if field else ''}{first['msg']}"
            return
        if sample.key != key:
            yield document.name, f"its key is {sample.key}"
        for kind, stated in (("simple.txt", sample.simple), ("complex.txt", sample.complex)):
            if self._sample[kind].data != stated.encode("utf-8", "surrogatepass"):
                yield self._sample[kind].name, "its text is another than the one in the sample's json"
        yield from _image_faults(self._sample["image"], sample)
        yield from self._index_faults(sample)

    def _index_faults(self, sample: Sample) -> Iterator[Fault]:
        image = self._sample["image"]
        row = self._row(sample.key)
        if row is None:
            return
        if (row["offset"], row["size"]) != (image.offset, len(image.data)):
            stated = f"{row['size']:,} bytes at {row['offset']:,}"
            yield image.name, f"index.parquet says {stated} and it has {len(image.data):,} at {image.offset:,}"
        for name in _SAMPLE:
            if name in row and row[name] != getattr(sample, name):
                yield image.name, f"index.parquet has another {name} than the sample's json"

    def _captions_faults(self, key: str, member: TarMember) -> Iterator[Fault]:
        try:
            captions = parse_captions(member.data)
        except ValueError as error:
            yield member.name, str(error)
            return
        if not captions:
            yield member.name, "it lists no caption; a sample without several has no such member"
        row = self._row(key)
        if row is not None and (row.get("captions") or []) != [caption.model_dump() for caption in captions]:
            yield member.name, "index.parquet has other captions of the sample"

    def _row(self, key: str) -> dict[str, Any] | None:
        """The row of a sample in the index; None where there is no such row, or no sound index."""
        return (self._index or {}).get(key)


def _image_faults(image: TarMember, sample: Sample) -> Iterator[Fault]:
    """Bytes that are not those of the hash, or are no such image; pixels are not decoded."""
    if (digest := hashlib.sha256(image.data).hexdigest()) != sample.sha256:
        yield image.name, f"its sha256 is {digest[:16]}..., not {sample.sha256[:16]}..."
    try:
        ext = sniff(image.data)
        with open_image(image.data) as header:
            size = header.size
    except Rejected as rejected:
        yield image.name, f"it is not an image: {rejected.detail}"
        return
    except Exception as error:  # Pillow on damaged bytes raises all sorts
        yield image.name, f"it cannot be read as an image ({error.__class__.__name__})"
        return
    if not image.name.endswith(f".{ext}") or ext != sample.ext:
        yield image.name, f"its bytes are those of a {ext}, its json says {sample.ext}"
    if sorted(size) != sorted((sample.width, sample.height)):  # a photograph may lie on its side
        yield image.name, f"it has {size[0]}x{size[1]} pixels, its json says {sample.width}x{sample.height}"
