"""The files of a build's model outputs: Parquet segments, and an index of which of them hold what."""

from __future__ import annotations

import io
import logging
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.pipeline.build.folder import Build
from surd.schemas.errors import one_line

log = logging.getLogger(__name__)
SECONDS = 60.0  # between two looks at what other processes have written
_SCHEMA = pa.schema([("key", pa.binary(16)), ("about", pa.list_(pa.binary(32))), ("value", pa.binary())])
_SETTINGS, _RECORDS = b"settings", b"records"
_NAME = re.compile(r"(\d{5,})-([0-9a-f]{16})-[0-9a-f]{8}\.parquet")
_WIDTH = 8  # bytes of an output's key that the index holds; a record's key has as many


class Output(NamedTuple):
    """One output. ``key``: the hash of what the model was asked; ``about``: sha256 of pictures and texts in it."""

    key: bytes
    about: tuple[bytes, ...]
    value: bytes


def segment_table(outputs: Sequence[Output], settings: str, records: Iterable[bytes]) -> pa.Table:
    """Outputs as the table of a segment. ``settings``: JSON for whoever opens the file; ``records``: keys, of 8 bytes,
    of the records that the unit had."""
    columns = zip(*outputs, strict=True)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
    metadata = {_SETTINGS: settings.encode(), _RECORDS: b"".join(records).hex().encode()}
    return pa.Table.from_arrays(arrays, schema=_SCHEMA.with_metadata(metadata))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The table of several segments of one unit and one space."""
    records = dict.fromkeys(record for table in tables for record in records_of(table))
    metadata = {**tables[0].schema.metadata, _RECORDS: b"".join(records).hex().encode()}
    return pa.concat_tables(tables).replace_schema_metadata(metadata)


def write_segment(build: Build, folder: str, unit: int, table: pa.Table) -> str:
    """Write a segment under a name that no other has; returns the name."""
    name = f"{unit:05d}-{time.time_ns():016x}-{secrets.token_hex(4)}.parquet"
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_page_checksum=True)
    build.write_bytes(f"{folder}/{name}", buffer.getvalue())
    return name


def read_segment(build: Build, file: str, columns: list[str] | None = None) -> pa.Table | None:
    """A segment; None where it is damaged, which is said, or gone, because another file has taken its place."""
    try:
        # A segment is small: whole it is one request to an object store.
        with io.BytesIO(build.read_bytes(file)) if columns is None else build.open(file) as data:
            table = pq.ParquetFile(data, page_checksum_verification=True).read(columns=columns, use_threads=False)
        if table.schema.names != (_SCHEMA.names if columns is None else columns) or not _is_whole(table):
            raise ValueError("it is not a segment of model outputs")
        return table
    except FileNotFoundError:
        return None
    except (pa.ArrowException, ValueError, LookupError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of disk or network, not of the file
        log.warning(
            "%s is damaged (%s): it is removed, and what it held is computed again", build.path(file), one_line(error)
        )
        build.remove(file)
        return None


def _is_whole(table: pa.Table) -> bool:
    """Whether the metadata is there; of the columns Parquet's own checksums tell."""
    metadata = table.schema.metadata or {}
    return _SETTINGS in metadata and len(metadata.get(_RECORDS, b"-")) % (2 * _WIDTH) == 0


def segments(build: Build, folder: str) -> list[str]:
    """The names of a space's segments."""
    return [name for name in build.listdir(folder) if _NAME.fullmatch(name)]


def unit_of(name: str) -> int:
    """The unit that wrote a segment."""
    return int(name.partition("-")[0])


def last_written(build: Build, folder: str) -> str:
    """When the last segment of a space was written, as something to sort by."""
    return max((name.split("-")[1] for name in segments(build, folder)), default="")


class SegmentIndex:
    """Which segments a space has and, once that is asked, which outputs or records they hold: read once per process.

    ``by_key``: outputs are found wherever they are; else the segments of units that had a record are. 8 bytes of each
    key and 4 for its segment: 120 MB for 10 million.
    """

    def __init__(self, folder: str, by_key: bool) -> None:
        self._folder, self._by_key, self._lock = folder, by_key, threading.RLock()
        self._listed: float | None = None
        self._of_unit: dict[int, list[str]] = {}
        self._numbers: dict[str, int | None] = {}  # of the segments that are there; None: not indexed yet
        self._names: list[str] = []  # of indexed segments, by number
        self._runs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]] = []  # sorted keys, their segments

    def refresh(self, build: Build) -> None:
        """Look for segments that other processes wrote, unless that was done a moment ago."""
        with self._lock:
            if self._listed is None or time.monotonic() - self._listed > SECONDS:
                self._numbers = {name: self._numbers.get(name) for name in segments(build, self._folder)}
                self._of_unit = {}
                for name in self._numbers:
                    self._of_unit.setdefault(unit_of(name), []).append(name)
                self._listed = time.monotonic()

    def is_empty(self) -> bool:
        """Whether the space is new."""
        return not self._numbers

    def of_unit(self, unit: int) -> list[str]:
        """The segments that a unit wrote."""
        with self._lock:
            return list(self._of_unit.get(unit, ()))

    def add(self, name: str, table: pa.Table) -> None:
        """Take up a segment that was written."""
        with self._lock:
            self._of_unit.setdefault(unit_of(name), []).append(name)
            self._take_up(name, table)

    def drop(self, name: str) -> None:
        """A segment is gone."""
        with self._lock:
            if name in self._numbers:
                del self._numbers[name]
                self._of_unit[unit_of(name)].remove(name)

    def read(self, build: Build, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that a segment holds."""
        found: dict[bytes, bytes] = {}
        for name, wanted in self.holding(build, keys).items():
            table = read_segment(build, f"{self._folder}/{name}")
            if table is None:
                self.drop(name)
            else:
                found |= values(table.filter(pc.is_in(table["key"], pa.array(wanted, pa.binary(16)))))
        return found

    def holding(self, build: Build, keys: Collection[bytes]) -> dict[str, list[bytes]]:
        """Segment -> those of ``keys`` that it holds, as far as 8 bytes tell; each key once."""
        with self._lock:
            for name in [name for name, number in self._numbers.items() if number is None]:
                table = read_segment(build, f"{self._folder}/{name}", ["key"] if self._by_key else [])
                if table is None:
                    self.drop(name)
                else:
                    self._take_up(name, table)
            asked = list(dict.fromkeys(keys))
            found: dict[str, list[bytes]] = defaultdict(list)
            for key, numbers in zip(asked, self._places(_prefixes(asked)), strict=True):
                names = (self._names[number] for number in numbers)
                if holder := next((name for name in names if name in self._numbers), None):
                    found[holder].append(key)
            return found

    def _places(self, prefixes: npt.NDArray[np.uint64]) -> list[list[int]]:
        """The numbers of the segments that hold each."""
        found: list[list[int]] = [[] for _ in prefixes]
        for keys, numbers in self._runs:
            firsts, ends = np.searchsorted(keys, prefixes, "left"), np.searchsorted(keys, prefixes, "right")
            for at in np.flatnonzero(ends > firsts).tolist():
                found[at] += numbers[firsts[at] : ends[at]].tolist()
        return found

    def _take_up(self, name: str, table: pa.Table) -> None:
        """Index a segment. Runs are merged when the next is half as long: sorting all at each would cost a second."""
        keys = _prefixes(table["key"].to_pylist() if self._by_key else records_of(table))
        self._numbers[name] = len(self._names)
        self._runs.append(_sorted(keys, np.full(len(keys), len(self._names), np.int32)))
        self._names.append(name)
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(np.concatenate([before[0], last[0]]), np.concatenate([before[1], last[1]])))


def values(table: pa.Table) -> dict[bytes, bytes]:
    """Key -> value of a segment."""
    return dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))


def records_of(table: pa.Table) -> list[bytes]:
    """The keys, of 8 bytes, of the records that a segment's unit had."""
    joined = bytes.fromhex(table.schema.metadata[_RECORDS].decode())
    return [joined[at : at + _WIDTH] for at in range(0, len(joined), _WIDTH)]


def _prefixes(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each."""
    return np.frombuffer(b"".join(key[:_WIDTH] for key in keys), np.uint64)


def _sorted(
    keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    order = np.argsort(keys, kind="stable")
    return keys[order], numbers[order]
