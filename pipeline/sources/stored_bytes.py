"""Images inside a tar or a parquet file, which open like a path."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

_CELLS = 16  # images of a parquet file that are in memory at once


class _FileSlice(io.RawIOBase):
    """Bytes ``start`` to ``start + size`` of a file, as a file of their own."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class StoredTarMember:
    """The place of a member's bytes in a tar."""

    tar: Path
    offset: int
    size: int

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BufferedReader(_FileSlice(self.tar, self.offset, self.size))


@dataclass(frozen=True)
class InMemory:
    """Bytes that are already in memory."""

    data: bytes

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BytesIO(self.data)


def tar_members(path: Path) -> dict[str, StoredTarMember]:
    """The plain files of a tar by name; of a truncated one, those before the end. Raises OSError if it is not a tar."""
    members: dict[str, StoredTarMember] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    members[member.name.removeprefix("./")] = StoredTarMember(path, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
    except tarfile.TarError as error:
        if not members:
            raise OSError(f"no tar: {error}") from None
    return members


class Cells:
    """The bytes of one column of a parquet file by row number; fastest if rows are read in order."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._batches: Iterator[tuple[int, pa.Array]] = iter(())
        self._at = -1
        self._recent: dict[int, Any] = {}

    def read(self, row: int) -> bytes:
        """The bytes of a row, which may be an image cell (``{"bytes": ...}``). Raises OSError if there are none."""
        try:
            if row not in self._recent:
                self._seek(row)
            value = self._recent[row].as_py()
        except (pa.ArrowException, KeyError, IndexError) as error:
            raise OSError(f"row {row} cannot be read: {' '.join(str(error).split())}") from None
        if isinstance(value, dict):
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise OSError(f"row {row} holds no image bytes")
        return value

    def _seek(self, row: int) -> None:
        if row <= self._at or self._at < 0:
            self._start(row)
        for number, batch in self._batches:
            self._recent = {number + place: batch[place] for place in range(len(batch))}
            self._at = number + len(batch) - 1
            if row <= self._at:
                return

    def _start(self, row: int) -> None:
        """Start at the row group with the row: those before it are not read."""
        table = pq.ParquetFile(self._path)
        first, group = 0, 0
        while group < table.num_row_groups and first + table.metadata.row_group(group).num_rows <= row:
            first += table.metadata.row_group(group).num_rows
            group += 1
        self._batches = _numbered(table, range(group, table.num_row_groups), self._column, first)


def _numbered(table: pq.ParquetFile, groups: range, column: str, first: int) -> Iterator[tuple[int, pa.Array]]:
    for batch in table.iter_batches(_CELLS, row_groups=list(groups), columns=[column]):
        yield first, batch.column(0)
        first += batch.num_rows


def stored_paths(path: Path, column: str) -> Iterator[str | None]:
    """The path in each image cell of a column that holds no bytes, or None; of a column of text, its values.

    A column without empty cells, as its statistics say, is not read.
    """
    table = pq.ParquetFile(path)
    kind = table.schema_arrow.field(column).type
    if pa.types.is_struct(kind):
        if kind.get_field_index("path") < 0 or _is_full(table, f"{column}.bytes"):
            return
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return
    for batch in table.iter_batches(_CELLS, columns=[column]):
        for cell in batch.column(0):
            value = cell.as_py()
            if isinstance(value, dict):
                value = value.get("path") if value.get("bytes") is None else None
            yield value if isinstance(value, str) else None


def _is_full(table: pq.ParquetFile, leaf: str) -> bool:
    """Whether the statistics say that no value of a column is null."""
    groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    columns = [group.column(at) for group in groups for at in range(group.num_columns)]
    of_leaf = [column.statistics for column in columns if column.path_in_schema == leaf]
    return all(statistics is not None and statistics.null_count == 0 for statistics in of_leaf)
