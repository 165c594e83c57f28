"""One build's folder: its files by stage and partition, each either whole or absent."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from surd.pipeline.build import ledger
from surd.pipeline.build.atomic import atomic_file
from surd.pipeline.build.damage import LASTING, BlockedFile, placing, reading
from surd.pipeline.build.image_reader import ImageReader, OpenReaders, extent, windows
from surd.pipeline.build.ledger import Ledger
from surd.pipeline.build.object_store import (
    RangeFile,
    names_below,
    open_ahead,
    open_store,
    open_table,
    read_ranges,
    remove_objects,
    replace_objects,
    store_errors,
    uploading,
)
from surd.pipeline.build.progress import UnitProgress
from surd.schemas import Marker, Pair, SurdError, from_table, to_table
from surd.schemas.arrow import complete
from surd.schemas.paths import list_names, list_sizes, remove, remove_files

M = TypeVar("M", bound=BaseModel)
_PART = re.compile(r"part-(\d{5,})\.")
_FEW = 8  # files of a marker


class Build:
    """Reads and writes below one root, a path or fsspec URL. Every write is atomic: temporary name, fsync, rename."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._fs, self._base, self._local = open_store(root)
        self._recordings: list[dict[str, str]] = []
        self._sizes: dict[str, int] = {}  # of the files that this object wrote, for the markers that list them
        self.progress = UnitProgress()  # of the unit that works with this object

    @property
    def name(self) -> str:
        """The last part of the root."""
        return self._base.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> str:
        """The path or URL of the folder that holds the root."""
        return str(Path(self._base).parent) if self._local else self.root.rstrip("/").rsplit("/", 1)[0]

    def path(self, relative: str) -> str:
        """The full path or URL of a file of the build, as a person would type it."""
        return f"{self.root.rstrip('/')}/{relative}"

    def local_path(self, relative: str) -> Path | None:
        """Where a file of the build lies on this machine, or None when the build is elsewhere."""
        return Path(self._full(relative)) if self._local else None

    def check_writable(self) -> None:
        """Raise SurdError when nothing can be written below the root."""
        try:
            self.write_bytes(".writable", b"")
            self.remove(".writable")
            if self.exists("build.json") and not self.is_file("build.json"):
                raise IsADirectoryError(errno.EISDIR, "its build.json is a folder")
        except (OSError, BlockedFile) as error:
            why = error.why if isinstance(error, BlockedFile) else error.strerror or error.__class__.__name__
            raise SurdError(
                f"out is {self.root!r} and cannot be written ({why}); give a folder that you may write"
            ) from None

    def is_file(self, relative: str) -> bool:
        with self._errors(relative):
            return bool(self._fs.isfile(self._full(relative)))

    def exists(self, relative: str) -> bool:
        with self._errors(relative):
            return bool(self._fs.exists(self._full(relative)))

    def listdir(self, relative: str) -> list[str]:
        """Names in a folder of the build, sorted; empty if it does not exist."""
        if not self.exists(relative):  # s3fs would list the folder above it, which may be large
            return []
        with self._errors(relative):
            return list_names(self._fs, self._full(relative))

    def walk(self) -> Iterator[str]:
        """Every file of the build, by its name below the root, sorted."""
        for name in sorted(self._fs.find(self._base)):
            yield name.removeprefix(self._base.rstrip("/")).lstrip("/")

    def sizes(self, relative: str) -> dict[str, int]:
        """Name -> bytes of the files in a folder of the build, by one listing; empty where none can be listed."""
        try:
            with self._errors(relative):
                return list_sizes(self._fs, self._full(relative))
        except OSError as error:
            if error.errno not in LASTING:
                raise
            return {}

    def remove(self, relative: str) -> None:
        """Remove a file or folder; nothing happens when it is absent."""
        for outputs in self._recordings:
            for name in [name for name in outputs if f"{name}/".startswith(f"{relative}/")]:
                del outputs[name]
        if not self._local:
            with self._errors(relative, writing=True):
                remove_objects(self._fs, self._full(relative))
        elif self.exists(relative):
            remove(self._fs, self._full(relative))

    @contextmanager
    def recording(self) -> Iterator[dict[str, str]]:
        """The files that are written in the block and not removed again, with their sha256: the outputs of a stage.

        Ledgers and their records are not among them.
        """
        outputs: dict[str, str] = {}
        self._recordings.append(outputs)
        try:
            yield outputs
        finally:
            self._recordings = [one for one in self._recordings if one is not outputs]

    def record(self, outputs: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> None:
        """Add files to the recordings under way, also files that an earlier run wrote and this one keeps."""
        self._sizes.update(sizes or {})
        for recorded in self._recordings:
            recorded.update({name: sha for name, sha in outputs.items() if not ledger.is_of_ledger(name)})

    @contextmanager
    def writing(self, relative: str, *, durable: bool = True) -> Iterator[HashingFile]:
        """A binary file that appears under its name only when the block ends well.

        Not ``durable``, of many small files that a later one vouches for: a loss of power soon after may cost it.
        """
        full = Path(self._full(relative))
        if self._local:
            with placing(self, relative):
                full.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_file(full, durable=durable) if self._local else self._uploading(relative) as raw:
                file = HashingFile(raw)
                yield file
        except OSError as error:
            if error.filename2 is None:  # not the renaming's: of the block, or of the disk
                raise
            with placing(self, relative):
                raise
        self.record({relative: file.sha256}, {relative: file.size})

    def send(self, relative: str, data: bytes) -> None:
        """Write a file of a build elsewhere that is not an output of a stage: recordings do not list it."""
        with self._uploading(relative) as raw:
            raw.write(data)

    def download(self, relative: str, target: Path) -> None:
        """Copy a file of a build elsewhere to a path on this machine. Raises FileNotFoundError."""
        with self._errors(relative):
            self._fs.get_file(self._full(relative), str(target))

    def names_below(self, relative: str) -> list[str]:
        """Names of the files in a folder of a build elsewhere, sorted, by one request also where there is none."""
        with self._errors(relative):
            return names_below(self._fs, self._full(relative))

    @contextmanager
    def _uploading(self, relative: str) -> Iterator[IO[bytes]]:
        """As ``atomic_file``, on another filesystem."""
        with uploading(self._fs, self.root, self._full(relative)) as raw:
            yield raw

    @contextmanager
    def replacing(self, folder: str, keep: Mapping[str, str] | None = None) -> Iterator[str]:
        """The name of a folder to write into, which takes the place of ``folder`` when the block ends well.

        ``keep``: new name -> name of each file of ``folder`` that comes along: as a link, or elsewhere as it is (a copy
        where its name changes), so that its bytes are neither read nor written.

        Until then ``folder`` stays as it is. On this machine the swap is two renames, and the next call puts back what
        a kill between them has moved away. Elsewhere it is file after file, ``manifest.json`` last; a kill amid them
        leaves a set without a manifest, which ``surd verify`` finds and the next run replaces.
        """
        fresh, before = f".{folder}.new", f".{folder}.old"
        self.put_back(folder)
        keep = keep or {}
        try:
            for new, old in keep.items():
                self._bring(f"{folder}/{old}", f"{fresh}/{new}")
            yield fresh
        except BaseException:
            self.remove(fresh)
            raise
        self._swap(fresh, folder, before, {new for new, old in keep.items() if new == old})

    def put_back(self, folder: str) -> None:
        """Where a kill has cut ``replacing`` short, put the folder back that was to be replaced, and nothing beside it.

        Only while the build is held.
        """
        fresh, before = f".{folder}.new", f".{folder}.old"
        if self._local and self.exists(before) and not self.exists(folder):
            Path(self._full(before)).rename(self._full(folder))
        self.remove(before)
        self.remove(fresh)

    def _bring(self, file: str, to: str) -> None:
        """Give a file a second name in a folder that is to take the place of its own."""
        full = self._full(to)
        if not self._local:
            if file.rpartition("/")[2] != to.rpartition("/")[2]:  # else it stays where it is
                self._fs.copy(self._full(file), full)
            return
        Path(full).parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(full).hardlink_to(self._full(file))
        except OSError:  # a filesystem without links
            shutil.copyfile(self._full(file), full)

    def _swap(self, fresh: str, folder: str, before: str, staying: set[str]) -> None:
        if self._local:
            if self.exists(folder):
                Path(self._full(folder)).rename(self._full(before))
            Path(self._full(fresh)).rename(self._full(folder))
        else:
            with self._errors(folder, writing=True):
                replace_objects(self._fs, self._full(fresh), self._full(folder), staying)
        moved: list[dict[str, Any]] = [self._sizes, *self._recordings]
        for of_file in moved:
            for name in [name for name in of_file if name.startswith(f"{fresh}/")]:
                of_file[folder + name.removeprefix(fresh)] = of_file.pop(name)
        self.remove(before)
        self.remove(fresh)

    def open(self, relative: str) -> IO[bytes]:
        """A file to be read from its start."""
        full = self._full(relative)
        return self._fs.open(full, "rb") if self._local else open_ahead(self._fs, self.root, full)

    def open_table(self, relative: str, columns: list[str] | None = None) -> IO[bytes]:
        """A Parquet file of which a part is to be read: these columns, or if they are not known yet, any."""
        full = self._full(relative)
        return self._fs.open(full, "rb") if self._local else open_table(self._fs, self.root, full, columns)

    def read_bytes(self, relative: str) -> bytes:
        with self._errors(relative):
            return bytes(self._fs.cat_file(self._full(relative)))

    def write_bytes(self, relative: str, data: bytes, *, durable: bool = True) -> str:
        """Write a file; returns its sha256."""
        with self.writing(relative, durable=durable) as file:
            file.write(data)
        return file.sha256

    def write_json(self, relative: str, value: BaseModel | dict[str, Any]) -> str:
        """Write a document as indented JSON; returns its sha256."""
        document = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        return self.write_bytes(relative, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())

    def write_table(self, relative: str, table: pa.Table, row_groups: Iterable[int] | None = None) -> str:
        """Write Parquet; returns its sha256."""
        return self.write_bytes(relative, parquet_bytes(table, row_groups))

    def read_table(self, relative: str, columns: list[str] | None = None) -> pa.Table:
        # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26). And not
        # by pq.read_table, which loads pandas: a process that writes no rows does without.
        with reading(self, relative):
            is_part = columns is not None and not self._local
            with self.open_table(relative, columns) if is_part else io.BytesIO(self.read_bytes(relative)) as file:
                table = pq.ParquetFile(file).read(columns=columns, use_threads=False)
            return table if columns is None else table.select(columns)

    def write_rows(self, stage: str, part: int, model: type[BaseModel], rows: list[Any]) -> str:
        sha256 = self.write_table(part_file(stage, part), to_table(model, rows))
        pa.default_memory_pool().release_unused()
        return sha256

    def read_rows(self, stage: str, part: int, model: type[M]) -> list[M]:
        """The rows of one partition of a stage, validated."""
        table = self.read_table(part_file(stage, part))
        with reading(self, part_file(stage, part)):
            rows = from_table(model, complete(model, table))
        pa.default_memory_pool().release_unused()  # 40 MB that Arrow would keep beside the pictures to come
        return rows

    def marker(self, stage: str, part: int) -> Marker | None:
        """The completion marker of a unit; None when it has none, or a file of it is gone or has another size.

        Of many units, ask ``ledger``. Raises SurdError when the ledger is damaged.
        """
        marker = ledger.recorded(self, stage, part)
        return marker if marker and ledger.missing(marker, self._size_of(marker)) is None else None

    def fresh_marker(self, stage: str, part: int) -> Marker | None:
        """As ``marker``, of a unit that ended since the driver read the ledger; one small file is read."""
        marker = ledger.fresh(self, stage, part)
        return marker if marker and ledger.missing(marker, self._size_of(marker)) is None else None

    def ledger(self, stage: str) -> Ledger:
        """The markers of all units of a stage, as they are now. Raises SurdError when the ledger is damaged."""
        return ledger.read_ledger(self, stage)

    def fold_ledger(self, stage: str) -> Ledger:
        """As ``ledger``; what its units recorded since the last time becomes one file. Only while the build is held."""
        return ledger.fold(self, stage)

    def write_marker(self, marker: Marker) -> None:
        """Mark a unit as done; takes the place of its earlier marker."""
        own = {file: self._sizes[file] for file in marker.outputs if file in self._sizes}
        full = marker.model_copy(update={"sizes": {**marker.sizes, **own}})
        self.write_json(ledger.record_file(marker.stage, marker.part), full)

    def remove_marker(self, stage: str, part: int) -> None:
        """Unmark a unit, so that it is done again; nothing happens when it has no marker."""
        ledger.take_back(self, stage, part)

    def put_file(self, relative: str, data: bytes, *, create: bool = False) -> bool:
        """Write a small file by one request of an object store; with ``create`` only where there is none, else False.

        Not for files of this machine, nor for outputs of a stage.
        """
        with self._errors(relative, writing=True):
            try:
                self._fs.pipe_file(self._full(relative), data, mode="create" if create else "overwrite")
            except FileExistsError:
                return False
        return True

    def read_many(self, files: Iterable[str]) -> list[bytes | OSError]:
        """The bytes of many small files, side by side on an object store; the error in the place of one without."""
        with self._errors(""):
            found = self._fs.cat_ranges([self._full(file) for file in files], None, None, on_error="return")
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, OSError):
                raise one
        return list(found)

    def remove_files(self, files: Iterable[str]) -> None:
        """Remove many files, some of which may be gone; elsewhere by one request for many."""
        with self._errors("", writing=True):
            remove_files(self._fs, [self._full(file) for file in files])

    def sync_folder(self, relative: str) -> None:
        """Wait until the names in a folder are on the disk; elsewhere than on this machine they are."""
        if self._local:
            handle = os.open(self._full(relative), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _size_if_there(self, file: str) -> int | None:
        try:
            info = self._fs.info(self._full(file))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def _size_of(self, marker: Marker) -> Callable[[str], int | None]:
        """Bytes of a file of a marker: asked one by one where they are few, else by listing their folders."""
        if len(marker.outputs) <= _FEW:
            return self._size_if_there
        listed: dict[str, dict[str, int]] = {}

        def size(file: str) -> int | None:
            folder, _, name = file.rpartition("/")
            if folder not in listed:
                listed[folder] = self.sizes(folder)
            return listed[folder].get(name)

        return size

    def part_count(self) -> int:
        """Partitions that collect made; 0 before it is done."""
        marker = self.marker("collect", 0)
        return marker.parts if marker else 0

    def image_reader(self, part: int) -> ImageReader:
        """Random access to the original bytes of a partition's pairs; close it after use."""
        tar = part_tar("fetch", part)
        full = self._full(tar)
        file = self._fs.open(full, "rb") if self._local else RangeFile(self._fs, self.root, full)
        return ImageReader(file, self.path(tar), self.path(part_file("fetch", part)))

    def images(self, part: int, pairs: Iterable[Pair]) -> Iterator[bytes]:
        """Original bytes of fetched images of one partition, one per pair."""
        return self.images_of((part, pair) for pair in pairs)

    def images_of(self, pairs: Iterable[tuple[int, Pair]]) -> Iterator[bytes]:
        """Original bytes of fetched images of any partitions, one per (partition, pair), in their order.

        On this machine one at a time. Elsewhere by requests of exactly their bytes, those of neighbours joined and
        several at once.
        """
        with closing(OpenReaders(self.image_reader)) as readers:
            if self._local:
                for part, pair in pairs:
                    yield readers[part].read(pair)
                return
            for window in windows(pairs):
                ranges = [(self._full(part_tar("fetch", part)), *extent(pair)) for part, pair in window]
                with store_errors(self.root, ranges[0][0]):
                    images = read_ranges(self._fs, ranges)
                for (part, pair), data in zip(window, images, strict=True):
                    yield readers[part].check(pair, data)

    def size(self, relative: str) -> int:
        """Bytes of a file."""
        with self._errors(relative):
            return int(self._fs.size(self._full(relative)))

    def _errors(self, relative: str, *, writing: bool = False) -> AbstractContextManager[None]:
        full = self._full(relative)
        return nullcontext() if self._local else store_errors(self.root, full, writing=writing)

    def _full(self, relative: str) -> str:
        if re.search(r"(^|/)\.\.(/|$)", relative):
            raise ValueError(f"{relative!r} leaves the build")
        return f"{self._base.rstrip('/')}/{relative}" if relative else self._base


def parquet_bytes(table: pa.Table, row_groups: Iterable[int] | None = None) -> bytes:
    """A table as Parquet (zstd). The same table and rows a group give the same bytes."""
    buffer, start = io.BytesIO(), 0
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        for count in [len(table)] if row_groups is None else row_groups:
            writer.write_table(table.slice(start, count))
            start += count
    return buffer.getvalue()


class HashingFile:
    """A write-only binary stream that knows the sha256 and length of what went through it."""

    closed = False  # pyarrow asks

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._raw.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._raw.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def part_file(stage: str, part: int) -> str:
    return f"{stage}/part-{part:05d}.parquet"


def part_tar(stage: str, part: int) -> str:
    return f"{stage}/part-{part:05d}.tar"


def part_journal(part: int) -> str:
    return f"fetch/part-{part:05d}.journal"


def part_miniatures(part: int) -> str:
    return f"decode/part-{part:05d}.miniatures.npy"


def part_number(name: str) -> int | None:
    """Of the name of a file of a partition; None of any other."""
    match = _PART.match(name)
    return int(match[1]) if match else None
