"""Reads the shards and columns of a dataset as samples and arrays, in key order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from surd.pipeline.build.damage import LASTING, DamagedFile, reading, remedy
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.schemas import Sample, ShardInfo, ShardManifest, SurdError, arrow_schema
from surd.schemas.errors import one_line
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import CAPTIONS, dump_captions, parse_captions
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.npy import read_npy
from surd.schemas.shard_format.tar import InvalidTar, TarMember, TarReader

_INDEX = "shards/index.parquet"
_CAPTIONS = "captions"  # the column of the index with what CAPTIONS holds
#: Columns of the index that say nothing more of a sample than its members do.
_KNOWN = {"shard", "offset", "size", _CAPTIONS, *Sample.model_fields}
#: The several captions of a sample in other layouts: the JSON text of its member. A column called captions would pass
#: for one of prompts.
CAPTIONS_FIELD = "captions_json"


@dataclass(frozen=True)
class StoredSample:
    """One sample: what its JSON says, its scores by the index, the original bytes of its image, and its captions.

    ``captions`` are those that it has beside the simple prompt, the best first; mostly there are none. ``offset``:
    where the image's bytes begin in the tar.
    """

    sample: Sample
    scores: dict[str, Any]
    image: bytes
    captions: Sequence[Caption] = ()
    offset: int = 0

    @property
    def file_name(self) -> str:
        return f"{self.sample.key}.{self.sample.ext}"

    def fields(self) -> dict[str, Any]:
        """All that is known of it but its prompts and its image, by name: enough to make the same sample again."""
        fields = self.sample.model_dump(mode="json", exclude={"simple", "complex"}) | self.scores
        return fields | ({CAPTIONS_FIELD: dump_captions(self.captions)} if self.captions else {})


def fields_schema(build: Build) -> pa.Schema:
    """Of what ``StoredSample.fields`` gives."""
    index = _index_schema(build)
    beyond = [field for field in index if field.name not in _KNOWN]
    if _CAPTIONS in index.names:
        beyond.append(pa.field(CAPTIONS_FIELD, pa.string()))
    return pa.schema([*(field for field in arrow_schema(Sample) if field.name not in ("simple", "complex")), *beyond])


def _index_schema(build: Build) -> pa.Schema:
    with reading(build, _INDEX), build.open_table(_INDEX) as file:
        return pq.read_schema(file)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of an index holds text, whichever way Arrow counts its bytes."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def read_manifest(build: Build) -> ShardManifest:
    """The manifest of the shards. Raises SurdError if it is missing or not valid."""
    if not build.exists("shards/manifest.json"):
        if build.ledger("pack").units():
            raise DamagedFile(build, "shards/manifest.json", "is missing")
        raise SurdError(
            f"build is {build.root!r} and holds no shards/manifest.json; give the folder that holds shards/"
        )
    return shard_manifest(build)


def read_shard(build: Build, shard: ShardInfo, scores: pa.Table) -> Iterator[StoredSample]:
    """The samples of a shard, with ``read_scores``. Raises SurdError naming file and member where it is not sound."""
    file = f"shards/{shard.name}"
    of_key = _scores_of(scores, shard.name)
    count, lists_captions = 0, False
    for key, group in groupby(_members(build, file), lambda member: member.name.partition(".")[0]):
        suffixes = ((member.name.partition(".")[2], member) for member in group)
        members = {"image" if suffix in IMAGE_SUFFIXES else suffix: member for suffix, member in suffixes}
        if CAPTIONS in members and not lists_captions:
            lists_captions = _CAPTIONS in _index_schema(build).names
            if not lists_captions:  # the other layouts have a column for them only where the index has one
                raise DamagedFile(build, _INDEX, f"has no captions, and {shard.name} holds {members[CAPTIONS].name}")
        yield _stored_sample(build, file, key, members, of_key)
        count += 1
    if count != shard.count:
        raise SurdError(f"{build.path(file)}: it holds {count:,} samples, not {shard.count:,}; {remedy(build, file)}")


def read_column_shard(build: Build, column: str, shard: ShardInfo) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Key and array of each sample; masks and pooled text are left out.

    Raises SurdError naming file and member where it is not sound.
    """
    file = f"columns/{column}/{shard.name}"
    for member in _members(build, file):
        key, _, suffix = member.name.partition(".")
        if suffix != "npy":
            continue
        try:
            yield key, read_npy(member.data)
        except ValueError as error:
            raise SurdError(f"{build.path(file)}: {member.name}: {error}; {remedy(build, file)}") from None


def _members(build: Build, file: str) -> Iterator[TarMember]:
    try:
        with build.open(file) as opened:
            yield from TarReader(opened, build.size(file))
    except InvalidTar as error:
        raise SurdError(f"{build.path(file)}: {error}; {remedy(build, file)}") from None
    except FileNotFoundError:
        raise SurdError(f"{build.path(file)}: it is missing; {remedy(build, file)}") from None
    except OSError as error:
        if error.errno not in LASTING:
            raise
        raise SurdError(f"{build.path(file)}: it cannot be read ({error.strerror}); {remedy(build, file)}") from None


def _stored_sample(
    build: Build, file: str, key: str, members: dict[str, TarMember], scores: dict[str, dict[str, Any]]
) -> StoredSample:
    try:
        sample = Sample.model_validate_json(members["json"].data)
        image = members["image"].data
        captions = parse_captions(members[CAPTIONS].data) if CAPTIONS in members else []
    except (KeyError, ValidationError) as error:
        raise SurdError(
            f"{build.path(file)}: {key}: the sample is incomplete ({error.__class__.__name__}); {remedy(build, file)}"
        ) from None
    except ValueError as error:
        raise SurdError(f"{build.path(file)}: {key}.{CAPTIONS}: {error}; {remedy(build, file)}") from None
    if sample.key != key or hashlib.sha256(image).hexdigest() != sample.sha256:
        raise SurdError(
            f"{build.path(file)}: {key}: its image is not the one that its json names; {remedy(build, file)}"
        )
    return StoredSample(sample, scores.get(key, {}), image, captions, members["image"].offset)


def read_scores(build: Build) -> pa.Table:
    """What the index holds of samples beyond their JSON, with key and shard. Raises SurdError."""
    try:
        with build.open_table(_INDEX) as file:
            table = pq.ParquetFile(file)
            if not {"key", "shard"} <= {*table.schema_arrow.names}:
                raise ValueError("it has no columns key and shard")
            beyond = [name for name in table.schema_arrow.names if name not in _KNOWN]
            # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26).
            scores = table.read(columns=["key", "shard", *beyond], use_threads=False)
            scores.validate(full=True)  # else text that is no UTF-8 is found only when it is asked for
            return scores
    except (OSError, ValueError) as error:  # ValueError: no parquet, or without that column
        why = one_line(error)
        raise SurdError(f"{build.path(_INDEX)}: it cannot be read ({why}); {remedy(build, _INDEX)}") from None


def read_caption_names(build: Build) -> list[set[str]]:
    """The names of each sample's several captions, as the index lists them; mostly there are none. Raises SurdError."""
    schema = _index_schema(build)
    with reading(build, _INDEX), build.open_table(_INDEX) as file:
        table = pq.ParquetFile(file)
        if _CAPTIONS not in schema.names:
            return [set()] * int(table.metadata.num_rows)
        # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26).
        rows = table.read(columns=[_CAPTIONS], use_threads=False)[_CAPTIONS].to_pylist()
        return [{str(caption["name"]) for caption in row or ()} for row in rows]


def _scores_of(scores: pa.Table, shard: str) -> dict[str, dict[str, Any]]:
    rows = scores.filter(pc.equal(scores["shard"], shard)).drop_columns(["shard"]).to_pylist()
    return {row.pop("key"): row for row in rows}
