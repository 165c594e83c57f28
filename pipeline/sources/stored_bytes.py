"""Turns the place of an image inside a tar or a parquet file into something that opens like a path."""

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


class _Part(io.RawIOBase):
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
    """A member of a tar, by where its bytes lie."""

    tar: Path
    offset: int
    size: int

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BufferedReader(_Part(self.tar, self.offset, self.size))


@dataclass(frozen=True)
class Held:
    """Bytes that are in memory already."""

    data: bytes

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BytesIO(self.data)


def tar_members(path: Path) -> dict[str, StoredTarMember]:
    """The plain files of a tar by name; of one that breaks off, those before. Raises OSError when it is no tar."""
    found: dict[str, StoredTarMember] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    found[member.name.removeprefix("./")] = StoredTarMember(path, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
    except tarfile.TarError as error:
        if not found:
            raise OSError(f"no tar: {error}") from None
    return found


class Cells:
    """The bytes of one column of a parquet file by row number; quickest when asked front to back."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._batches: Iterator[tuple[int, pa.Array]] = iter(())
        self._at = -1
        self._recent: dict[int, Any] = {}

    def read(self, row: int) -> bytes:
        """The bytes at a row, of an image cell (``{"bytes": ...}``) too. Raises OSError when there are none."""
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
        """Begin at the row group that holds the row: those before it are not read."""
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
