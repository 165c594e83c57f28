"""How many records a source on this machine has, without reading one of them whole: for a look before a build.

Folders are listed, tables counted by their Parquet footers where they have one, everything else read as collect would,
until the time is up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.pipeline.sources import RecordStream, Source, open_source
from surd.pipeline.sources.folder import PAIRS
from surd.pipeline.sources.image_column import image_column
from surd.pipeline.sources.local_files import SIDECARS, files_below, resolved
from surd.pipeline.sources.table_reader import DAMAGED, kind_of, read_table
from surd.schemas import BuildConfig, SurdError

#: Kinds whose pictures lie on this machine too: fetch reads them and downloads nothing.
PICTURES_HERE = ("demo", "folder", "img2dataset", "huggingface", "authors", "diffusiondb")
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
#: What lists of pictures call the bytes of each (Danbooru's and e621's do).
_SIZES = ("file_size", "filesize", "size_bytes")


@dataclass
class SourceCount:
    """``records`` so far, and whether those are all; None: known once they are collected.

    ``size``: bytes of the pictures, where a list states them; None: it does not.
    """

    records: int | None = None
    complete: bool = False
    size: int | None = None


class _TimeUp(Exception):
    pass


class _Counter:
    """Counts until its time is up."""

    def __init__(self, seconds: float) -> None:
        self.found = SourceCount(records=0)
        self._end = time.monotonic() + seconds

    def add(self, records: int, size: int | None = None) -> None:
        self.found.records = (self.found.records or 0) + records
        if size is not None:
            self.found.size = (self.found.size or 0) + size
        if time.monotonic() > self._end:
            raise _TimeUp

    def each(self, rows: Iterable[Any]) -> None:
        for _ in rows:
            self.add(1)


def count_records(config: BuildConfig, seconds: float = 3.0) -> SourceCount:
    """The records that ``config.source`` has, of which at most ``config.limit`` count, as far as ``seconds`` go.

    Rows that collect drops as repeated are counted too. Nothing on the network is asked. Raises SurdError if the
    source is not valid.
    """
    source = open_source(config)
    kind, _, rest = config.source.partition(":")
    if kind == "demo":
        return _limited(SourceCount(config.demo.count, True), config)
    if kind not in (*PICTURES_HERE, "urls") or "://" in rest:
        return SourceCount()
    counter, errors = _Counter(seconds), list[SurdError]()

    def count() -> None:
        try:
            _count(kind, resolved(rest), source, config, counter)
            counter.found.complete = True
        except (_TimeUp, OSError, ValueError, pa.ArrowException, *DAMAGED):  # a damaged file: collect says which
            pass
        except SurdError as error:
            errors.append(error)

    # On a thread: to list one folder of a slow network drive may take longer than there is time.
    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    if errors:
        raise errors[0]
    return _limited(counter.found, config)


def _limited(found: SourceCount, config: BuildConfig) -> SourceCount:
    if config.limit is None or found.records is None or found.records < config.limit:
        return SourceCount(found.records, found.complete, found.size)
    size = found.size * config.limit // found.records if found.size and found.records else found.size
    return SourceCount(config.limit, True, size)


def _count(kind: str, root: Path, source: Source, config: BuildConfig, counter: _Counter) -> None:
    if kind == "folder":
        _count_files(root, counter)
    elif kind == "urls":
        source.fingerprint()  # which says what is wrong with the path
        tables = [root] if root.is_file() else [root / name for name in files_below(root).files if kind_of(name)]
        for table in tables:
            _count_rows(table, counter)
    elif tables := _whole_tables(kind, root, config):
        for table in tables:
            counter.add(pq.read_metadata(table).num_rows)
    elif isinstance(source, RecordStream):
        with source:
            counter.each(source.records())


def _count_files(root: Path, counter: _Counter) -> None:
    """The files of a folder that are no sidecar of a picture: each is a record."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = [os.path.splitext(name) for name in names if not name.startswith(".")]  # noqa: PTH122 - of many names
        pictures = {stem for stem, suffix in parts if suffix.lower() in _IMAGES}
        records = sum(not (suffix.lower() in SIDECARS and stem in pictures) for stem, suffix in parts)
        counter.add(records - (Path(folder) == root and PAIRS in names))


def _count_rows(table: Path, counter: _Counter) -> None:
    kind = kind_of(table.name) or ""
    if kind != "parquet":
        with fsspec.filesystem("file").open(str(table), "rb", compression="infer") as opened:
            counter.each(read_table(opened, kind)[1])
        return
    footer = pq.ParquetFile(table)
    column = next((name for name in _SIZES if name in footer.schema_arrow.names), None)
    size = None
    if column and pa.types.is_integer(footer.schema_arrow.field(column).type):
        size = pc.sum(footer.read(columns=[column], use_threads=False)[column]).as_py()
    counter.add(footer.metadata.num_rows, size)


def _whole_tables(kind: str, root: Path, config: BuildConfig) -> list[Path]:
    """The Parquet files of which every row is a record, where nothing else of the folder is one."""
    if kind == "img2dataset":
        tables = sorted(path for path in root.glob("*.parquet") if path.stem.isdigit())
        shards = {path.name.partition(".")[0] for path in root.iterdir()}
        return tables if {name for name in shards if name.isdigit()} == {path.stem for path in tables} else []
    if kind != "huggingface":
        return []
    names = files_below(root).files
    tables = [root / name for name in names if name.endswith(".parquet") and Path(name).stem != "metadata"]
    if any(Path(name).suffix.lower() in _IMAGES or Path(name).stem == "metadata" for name in names):
        return []
    with suppress(SurdError):  # several columns of pictures: collect asks which
        if all(image_column(pq.read_schema(table), config.urls.image_column, table.name) for table in tables):
            return tables
    return []
