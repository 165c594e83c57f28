"""``surd verify --forgotten``: searches every file of a build for what was removed from it.

Every file is opened for what it is, not for what it is called: rows and indexes for the keys, for the sha256 of
pictures and for what the tombstones name; tars for members of the keys and for bytes with the sha256 of a picture;
journals; miniatures; reports for the records they show; everything else for the keys and the sha256 as text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.pipeline.acquisition.journal import journal_entries
from surd.pipeline.acquisition.tombstones import FORGOTTEN, Tombstones, stub
from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.forget.forget import PENDING
from surd.pipeline.forget.tars import key_of
from surd.schemas import Reason, SurdError
from surd.schemas.shard_format.npy import read_npy
from surd.schemas.shard_format.tar import InvalidTar, TarReader

_CHUNK = 1 << 24
_OVERLAP = 128
_MINIATURES = re.compile(r"decode/part-(\d+)\.miniatures\.npy")
_HEX = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{16}|[0-9a-f]{64})(?![0-9a-f])")
_SHOWN_RECORD = re.compile(rb'(?:"key": ?|data-(?:key|copy|open)=)"([0-9a-f]{16})"')
#: Columns that a row without content has; the others are null.
_LEFT = {*stub(""), "source", "source_id"}


@dataclass(frozen=True)
class Leftover:
    """A file that still holds something of a removed record, and what."""

    file: str
    what: str


def find_leftovers(build: Build, opened: Callable[[str], None] = lambda file: None) -> Iterator[Leftover]:
    """What is left of the removed records, file by file; ``opened`` is called with the name of each.

    Raises SurdError when nothing was ever removed from the build: then there is nothing to prove.
    """
    tombstones = Tombstones.read(build)
    if not tombstones:
        raise SurdError(f"build is {build.root!r} and has no {FORGOTTEN}: nothing was removed from it with surd forget")
    if build.exists(PENDING):
        yield Leftover(PENDING, "a removal is not finished; run surd forget BUILD again")
    for file in build.walk():
        if file not in (FORGOTTEN, PENDING):
            opened(file)
            for what in dict.fromkeys(_in_file(build, file, tombstones)):
                yield Leftover(file, what)


def _in_file(build: Build, file: str, tombstones: Tombstones) -> Iterator[str]:
    try:
        with reading(build, file), build.open(file) as opened:
            head = opened.read(512)
            opened.seek(0)
            yield from _searcher(head)(build, file, opened, tombstones)
    except DamagedFile as damage:
        yield f"cannot be searched: it {damage.why}"
    except InvalidTar as damage:
        yield f"cannot be searched: {damage}"


_Searcher = Callable[[Build, str, IO[bytes], Tombstones], Iterator[str]]


def _searcher(head: bytes) -> _Searcher:
    """By a file's first bytes."""
    if head.startswith(b"PAR1"):
        return _in_table
    if head[257:262] == b"ustar":
        return _in_tar
    if head.startswith(b"\x93NUMPY"):
        return _in_array
    if head.startswith(b'{"journal"'):
        return _in_journal
    return _in_page if head.lstrip().lower().startswith(b"<!doctype html") else _in_bytes


def _in_table(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    table = pq.ParquetFile(opened)
    for number in range(table.num_row_groups):
        rows = table.read_row_group(number, use_threads=False)
        if "key" in rows.column_names and pa.types.is_string(rows["key"].type):
            yield from _in_rows(rows, tombstones)
        for name in rows.column_names:
            column = rows[name].combine_chunks()
            if pa.types.is_list(column.type):
                column = column.flatten()
            if name != "key" and _is_searched(column.type):
                values = {_text(value) for value in pc.unique(column).to_pylist()}
                yield from (f"sha256 {value[:16]}... in {name}" for value in sorted(values & tombstones.pictures))


def _is_searched(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else value or ""


def _in_rows(rows: pa.Table, tombstones: Tombstones) -> Iterator[str]:
    """Rows of removed records must be stubs, and no others may be what a tombstone names."""
    links = [
        rows[name].to_pylist() if name in rows.column_names else None
        for name in ("url", "page_url", "author", "source")
    ]
    for at, key in enumerate(rows["key"].to_pylist()):
        names = [values[at] if values else None for values in links]
        if next(tombstones.matches(key, *names), None) is None:
            continue
        row = rows.slice(at, 1).to_pylist()[0]
        content = [name for name, value in row.items() if value is not None and name not in _LEFT]
        if row.get("reason") != Reason.FORGOTTEN or row.get("source_id") or content:
            yield f"row of {key}"


def _in_tar(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    for member in TarReader(opened, build.size(file)):
        if key_of(member.name) in tombstones.keys:
            yield f"member {member.name}"
        elif hashlib.sha256(member.data).hexdigest() in tombstones.pictures:
            yield f"the bytes of a removed picture in {member.name}"


def _in_array(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    """Miniatures lie in the order of their partition's rows."""
    match = _MINIATURES.fullmatch(file)
    if match and build.exists(part_file("collect", int(match[1]))):
        keys = build.read_table(part_file("collect", int(match[1])), columns=["key"])["key"].to_pylist()
        array = read_npy(opened.read()) if keys else ()
        for key, miniature in zip(keys, array, strict=False):
            if key in tombstones.keys and miniature.any():
                yield f"miniature of {key}"


def _in_journal(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    path = build.local_path(file)
    for fields, data in journal_entries(path) if path else ():
        hashes = {fields.get("sha256"), hashlib.sha256(data).hexdigest()}
        if fields["key"] in tombstones.keys or hashes & tombstones.pictures:
            yield f"entry of {fields['key']}"


def _in_page(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    """A report: a record that it shows. What it says of others may name a key."""
    shown = {match[1].decode() for chunk in _chunks(opened) for match in _SHOWN_RECORD.finditer(chunk)}
    yield from (f"record {key}" for key in sorted(shown & tombstones.keys))


def _in_bytes(build: Build, file: str, opened: IO[bytes], tombstones: Tombstones) -> Iterator[str]:
    digest = hashlib.sha256()
    for chunk in _chunks(opened, digest.update):
        texts = {match[0].decode() for match in _HEX.finditer(chunk)}
        yield from (f"key {key}" for key in sorted(texts & tombstones.keys))
        yield from (f"sha256 {sha256[:16]}..." for sha256 in sorted(texts & tombstones.pictures))
    if digest.hexdigest() in tombstones.pictures:
        yield "it is a removed picture"


def _chunks(opened: IO[bytes], each: Callable[[bytes], None] = lambda data: None) -> Iterable[bytes]:
    """A file in pieces that overlap, so that no hash is cut; ``each`` gets the new bytes of each."""
    tail = b""
    while data := opened.read(_CHUNK):
        each(data)
        yield tail + data
        tail = data[-_OVERLAP:]
