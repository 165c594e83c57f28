"""Writes the tars of columns, one shard at a time, and their manifests."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from surd.pipeline.build.damage import placing, remedy
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.buckets import describe_buckets
from surd.pipeline.dataset.columns.reuse import ArraysSoFar, drop_items, item_hash, note_items, reusable
from surd.pipeline.dataset.columns.spec import ColumnSpec, columns_present, marker_folder, shard_manifest
from surd.pipeline.dataset.reader import is_text
from surd.pipeline.models import Models
from surd.schemas import ColumnManifest, Marker, ShardInfo, SurdError
from surd.schemas.config import EmbedConfig
from surd.schemas.errors import one_line
from surd.schemas.manifest import EMPTY_PROMPT_KEY, EMPTY_PROMPT_TAR, TOKEN_LEVEL
from surd.schemas.shard_format.npy import read_npy, write_npy
from surd.schemas.shard_format.tar import InvalidTar, TarReader, add_member, tar_writer

if TYPE_CHECKING:
    from surd.pipeline.dataset.columns.compute import Arrays, ArrayStream

_VERSION = 1  # of what a column holds for the same model, prompts and images
_BUCKETS_VERSION = 1  # of which buckets there are and which one a picture gets
Prompts = dict[str, dict[str, str]]  # key -> simple and complex prompt, in the shard's order
DType = Literal["float16", "bfloat16", "float32"]


def write_column_shards(
    build: Build, number: int, columns: Sequence[ColumnSpec], settings: EmbedConfig, models: Models
) -> None:
    """Write ``columns/<column>/surd-NNNNN.tar`` of each column that has none, or has another shard's, for this shard.

    LLM columns of one model share one pass. Beside the first shard's text states of simple prompts lie those of the
    empty prompt, which trainings with caption dropout meet. Raises SurdError where a column cannot be made.
    """
    shards = shard_manifest(build).shards
    shard = shards[number]
    prompts = shard_prompts(build, shard)
    missing: dict[ColumnSpec, str] = {}
    for column in columns:
        fingerprint = column_fingerprint(column, shard, prompts, models)
        marker = build.marker(marker_folder(column.name), number)
        if marker and marker.fingerprint == fingerprint:
            build.record(marker.outputs, marker.sizes)
        else:
            missing[column] = fingerprint
    passes = groupby(missing, key=lambda column: (column.kind, column.model, column.text, column.buckets))
    groups = [tuple(group) for _, group in passes]
    build.progress.expect(*groups)
    for together in groups:
        started = time.perf_counter()
        for column in together:
            _check_revision(column, models)
        with build.recording() as outputs:
            _write_tars(build, number, shard.name, prompts, together, settings, models)
        seconds = (time.perf_counter() - started) / len(together)
        for column in together:
            _mark(build, number, column, missing[column], outputs, seconds)


def describe_column(build: Build, column: ColumnSpec, models: Models) -> ColumnManifest:
    """Write a finished column's ``manifest.json``, and remove tars of shards that are no more.

    Raises SurdError when its shards differ in dtype or shape.
    """
    shards = shard_manifest(build).shards
    folder = f"columns/{column.name}"
    written: dict[str, str] = {}  # name of a tar -> its sha256
    ledger = build.ledger(marker_folder(column.name))
    for number in range(len(shards)):
        marker = ledger.marker(number)
        assert marker is not None, "a column is described after every shard of it is written"
        written |= {file.rpartition("/")[2]: sha256 for file, sha256 in marker.outputs.items()}
    for stale in set(build.listdir(folder)) - written.keys() - {"manifest.json"}:
        build.remove(f"{folder}/{stale}")
    drop_items(build, column.name, len(shards))

    def info(name: str, count: int) -> ShardInfo:
        return ShardInfo(name=name, count=count, bytes=build.size(f"{folder}/{name}"), sha256=written[name])

    infos = [info(shard.name, shard.count) for shard in shards]
    empty = info(EMPTY_PROMPT_TAR, 1) if EMPTY_PROMPT_TAR in written else None
    tars = infos + ([empty] if empty else [])
    mine = column.models(models)
    revision = column.revision or mine.weights(column.role)
    there = columns_present(build).get(column.name)
    if there and (there.tars, there.revision, ColumnSpec.of(there)) == (tars, revision, column):
        return there
    shape, dtype, pooled = _array_schema(build, folder, [shard.name for shard in shards], column)
    encoders = mine.diffusion if column.kind == "latents" else None
    manifest = ColumnManifest(
        column=column.name,
        kind=column.kind,
        model=column.model,
        revision=revision,
        text=column.text,
        layer=column.layer,
        pooling=column.pooling,
        shape=shape,
        width=(shape or [0])[-1] or 0,
        dtype=dtype,
        mask=column.kind == "clip",
        pooled=pooled,
        image_size=encoders and encoders.image_size,
        buckets=describe_buckets(build, folder, infos, there, encoders) if column.buckets and encoders else None,
        scaling_factor=encoders and encoders.scaling_factor,
        shift_factor=encoders and encoders.shift_factor,
        empty=empty,
        count=sum(info.count for info in infos),
        shards=infos,
    )
    build.write_json(f"{folder}/manifest.json", manifest)
    return manifest


def import_column_shard(
    build: Build, number: int, column: ColumnSpec, array_of: Callable[[str], npt.NDArray[Any]], models: Models
) -> None:
    """Write one shard's tar of a column of prompts whose arrays are at hand, and its marker, as if it had been made."""
    shards = shard_manifest(build).shards
    prompts = shard_prompts(build, shards[number])
    file = f"columns/{column.name}/{shards[number].name}"
    with build.recording() as outputs, build.writing(file) as raw, tar_writer(raw) as tar:
        for key, row in prompts.items():
            member = io.BytesIO()
            write_npy(member, array_of(row[column.text or "simple"]))
            add_member(tar, f"{key}.npy", member.getvalue())
    _mark(build, number, column, column_fingerprint(column, shards[number], prompts, models), outputs, 0.0)


def _mark(
    build: Build, number: int, column: ColumnSpec, fingerprint: str, written: Mapping[str, str], seconds: float
) -> None:
    """Write the completion marker of one shard of a column that was just written."""
    shards = shard_manifest(build).shards
    files = [f"columns/{column.name}/{name}" for name in _names(column, number, shards[number].name)]
    marker = Marker(
        stage=marker_folder(column.name),
        part=number,
        parts=len(shards),
        fingerprint=fingerprint,
        outputs={file: written[file] for file in files},
        rows=shards[number].count,
        seconds=round(seconds, 3),
    )
    build.write_marker(marker)


def shard_prompts(build: Build, shard: ShardInfo) -> Prompts:
    """Keys and prompts of a shard, in order. They lie in the index, so that no shard is opened for them."""
    wanted: dict[str, Any] = {"columns": ["key", "simple", "complex"], "filters": [("shard", "=", shard.name)]}
    try:
        with build.open_table("shards/index.parquet") as file:
            # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26).
            table = pq.read_table(file, use_threads=False, **wanted)
        table.validate(full=True)  # else text that is no UTF-8 is found much later
        if any(column.null_count or not is_text(column.type) for column in table.columns):
            raise ValueError("a key or prompt in it is not text")
        prompts: Prompts = {row["key"]: row for row in table.to_pylist()}
        if len(prompts) != shard.count:
            raise ValueError(f"it has {len(prompts):,} samples of {shard.name}, not {shard.count:,}")
    except (OSError, ValueError) as error:  # ValueError: Arrow's own are ones too
        why = one_line(error)
        raise SurdError(
            f"{build.path('shards/index.parquet')} cannot be read for the prompts ({why});"
            f" {remedy(build, 'shards/index.parquet')}"
        ) from None
    return prompts


def column_fingerprint(column: ColumnSpec, shard: ShardInfo, prompts: Prompts, models: Models) -> str:
    """Of all that a column's tar follows from. A column of prompts follows from those alone, whatever the images."""
    read: Any = shard.sha256
    if column.text:
        read = [(key, row[column.text]) for key, row in prompts.items()]
    basis = {**_basis(column, models), "read": read}
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()


def _basis(column: ColumnSpec, models: Models) -> dict[str, object]:
    """All that decides an array beside the prompt or picture that it is of."""
    basis: dict[str, object] = {
        "version": _VERSION,
        "column": column.name,
        "weights": column.revision or column.models(models).weights(column.role),
        "dtype": models.dtype_of("embed_llm") if column.kind == "llm" else None,
    }
    return basis | {"buckets": _BUCKETS_VERSION} if column.buckets else basis


def _check_revision(column: ColumnSpec, models: Models) -> None:
    """What is there of a column must go on with the same weights. Raises SurdError when the model has changed."""
    try:
        now = column.models(models).weights(column.role)
    except SurdError as error:
        raise SurdError(f"column {column.name!r} must follow the shards: {error}; or drop the column") from None
    if column.revision not in (None, now):
        raise SurdError(
            f"column {column.name!r} was made by {column.model!r} with the weights {column.revision},"
            f" and its weights are now {now};"
            f" drop the column and add it again"
        )


def _names(column: ColumnSpec, number: int, shard: str) -> list[str]:
    """The tars that come with a shard of a column."""
    return [shard, EMPTY_PROMPT_TAR] if column.conditions_unet and number == 0 else [shard]


def _write_tars(
    build: Build,
    number: int,
    shard: str,
    prompts: Prompts,
    columns: Sequence[ColumnSpec],
    settings: EmbedConfig,
    models: Models,
) -> None:
    """Make the arrays of columns that share a pass, and write them in the shard's order.

    What the tars that are there hold of the same prompts and pictures is taken from them.
    """
    text = columns[0].text
    items = {
        shard: {key: row[text] if text else key for key, row in prompts.items()},
        EMPTY_PROMPT_TAR: {EMPTY_PROMPT_KEY: ""},
    }
    names = _names(columns[0], number, shard)
    wanted = [item for name in names for item in items[name].values()]
    hashes = {item: item_hash(item if text else sha256) for item, sha256 in _identities(build, shard, wanted, text)}
    so_far = {column: ArraysSoFar(build, column.name, number, _basis(column, models)) for column in columns}
    reused = reusable(list(so_far.values()))
    item_of = {hashes[item]: item for item in wanted}
    with ExitStack() as stack:
        # Arrays come in the order that suits the model, and may be more than memory holds.
        folder = build.local_path("columns")
        if folder:
            with placing(build, "columns"):
                folder.mkdir(parents=True, exist_ok=True)
        spools = {column: _Spool(stack.enter_context(tempfile.TemporaryFile(dir=folder))) for column in columns}
        for column, spool in spools.items():
            for known, suffix, data in so_far[column].members():
                if known in reused and known in item_of:
                    spool.add_bytes(item_of[known], suffix, data)
        if missing := [item for item in wanted if hashes[item] not in reused]:
            computed = _compute(build, shard, missing, columns, settings, models)
            for item, arrays in build.progress.counted(computed, len(set(missing)), tuple(columns)):
                for column, of_column in arrays.items():
                    spools[column].add(item, of_column)
        of_key = {key: hashes[item] for name in names for key, item in items[name].items()}
        for column, spool in spools.items():
            tars = {}
            for name in names:
                path = f"columns/{column.name}/{name}"
                with build.writing(path) as file, tar_writer(file) as tar:
                    for key, item in items[name].items():
                        for suffix, data in spool.read(item):
                            add_member(tar, f"{key}.{suffix}", data)
                tars[path] = file.sha256
            note_items(build, column.name, number, _basis(column, models), tars, of_key)


def _compute(
    build: Build, shard: str, items: list[str], columns: Sequence[ColumnSpec], settings: EmbedConfig, models: Models
) -> ArrayStream:
    from surd.pipeline.dataset.columns.compute import (  # only here: a skipped build loads no torch
        bucket_arrays,
        clip_arrays,
        latent_arrays,
        llm_arrays,
    )

    mine = columns[0].models(models)
    if columns[0].kind == "llm":
        return llm_arrays(columns, items, settings, mine)
    if columns[0].kind == "clip":
        return clip_arrays(columns, items, settings, mine)
    arrays = bucket_arrays if columns[0].buckets else latent_arrays
    return arrays(columns, build, shard, settings, mine, set(items))


def _identities(build: Build, shard: str, items: list[str], text: str | None) -> Iterator[tuple[str, str]]:
    """Each item and what identifies it: a prompt itself, of a key the sha256 of its picture."""
    if text:
        yield from ((item, item) for item in items)
        return
    table = build.read_table("shards/index.parquet", ["key", "sha256"])
    pictures = dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    yield from ((key, f"{key} {pictures[key]}") for key in items)


class _Spool:
    """Arrays by the item they belong to, as the bytes of .npy files, on disk until their turn has come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, list[tuple[str, int, int]]] = {}

    def add(self, item: str, arrays: Arrays) -> None:
        places = self._places.setdefault(item, [])
        for suffix, array in arrays.items():
            start = self._file.tell()
            write_npy(self._file, array)
            places.append((suffix, start, self._file.tell() - start))

    def add_bytes(self, item: str, suffix: str, data: bytes) -> None:
        """An array as the bytes of its file."""
        self._places.setdefault(item, []).append((suffix, self._file.tell(), len(data)))
        self._file.write(data)

    def read(self, item: str) -> list[tuple[str, bytes]]:
        """Suffix and bytes of each array of an item."""
        members = []
        for suffix, start, size in self._places[item]:
            self._file.seek(start)
            members.append((suffix, self._file.read(size)))
        return members


def _array_schema(
    build: Build, folder: str, shards: list[str], column: ColumnSpec
) -> tuple[list[int | None], DType, int | None]:
    """Shape and dtype of a column, and the length of its pooled texts, from the first sample of each shard."""
    kinds: dict[tuple[tuple[int | None, ...], Any, int | None], str] = {}
    for shard in shards:
        arrays = _first_sample(build, f"{folder}/{shard}")
        array, pooled = arrays["npy"], arrays.get("pooled.npy")
        shape: tuple[int | None, ...] = array.shape
        if column.pooling in TOKEN_LEVEL:
            shape = (None, array.shape[-1])
        if column.buckets:
            shape = (array.shape[0], None, None)
        dtype = "bfloat16" if array.dtype == np.uint16 else array.dtype.name
        kinds[shape, dtype, None if pooled is None else len(pooled)] = shard
    if len(kinds) > 1:
        raise SurdError(
            f"column {column.name!r}: its shards {sorted(kinds.values())} differ ({list(kinds)});"
            " set models.dtype, drop the column and add it again"
        )
    for found, dtype, length in kinds:
        return list(found), dtype, length
    return [], "float32", None


def _first_sample(build: Build, file: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a tar's first sample, by their suffix. Raises SurdError if the tar is not valid."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    first = ""
    try:
        with build.open(file) as raw:
            for member in TarReader(raw, build.size(file)):
                key, _, suffix = member.name.partition(".")
                if key != (first := first or key):
                    break
                arrays[suffix] = read_npy(member.data)
        if "npy" not in arrays:
            raise ValueError("its first sample has no array")
    except (InvalidTar, ValueError) as error:
        raise SurdError(f"{build.path(file)} is damaged ({error}); {remedy(build, file)}") from None
    return arrays
