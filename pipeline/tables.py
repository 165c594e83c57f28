"""Tables of a reduce that may be larger than memory: Parquet files, sorted and joined by DuckDB.

Of the kept libraries DuckDB sorts, groups and joins under a memory limit that it keeps, and spills to disk beyond it;
Polars streams too, but its sorts and joins have no limit that can be set. It is given one thread: with two, the same
queries over a million rows needed more than twice the memory, and took as long as one thread's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY = "96MB"  # what DuckDB may hold; 64 MB are too little for the queries of dedup over 200,000 rows
_BATCH = 4096  # rows that are read or written at once


class Tables:
    """Named tables, each a Parquet file in ``folder``. SQL knows them by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        import duckdb  # only here: 16 MB that the stages over partitions do without

        self._failed = duckdb.IOException
        settings: Any = {"memory_limit": MEMORY, "threads": 1, "temp_directory": str(folder / "spilled")}
        self._database = duckdb.connect(config=settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def file(self, name: str) -> Path:
        """Where a table lies, or whatever else a stage puts beside them."""
        return self.folder / name

    @contextmanager
    def writing(self, name: str, schema: pa.Schema) -> Iterator[TableWriter]:
        """A table that is written piece by piece, and can be used when the block has ended."""
        with pq.ParquetWriter(self.file(f"{name}.parquet"), schema, compression="none") as file:
            writer = TableWriter(file, schema)
            yield writer
            writer.flush()
        self._view(name)

    def make(self, name: str, query: str) -> None:
        """A table from others, in the order that the query gives its rows."""
        to = _quoted(self.file(f"{name}.parquet"))
        try:
            self._database.execute(f"COPY ({query}) TO {to} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 20480)")
        except self._failed as error:
            code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
            raise OSError(code, os.strerror(code), str(self.folder)) from error
        self._view(name)

    def batches(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """A table's rows in their order, some thousand at a time."""
        with pq.ParquetFile(self.file(f"{name}.parquet")) as file:
            # Without Arrow's own threads: a process that has used them sometimes aborts when it exits (pyarrow 26).
            yield from file.iter_batches(_BATCH, columns=columns, use_threads=False)

    def rows(self, name: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """A table's rows in their order, one at a time."""
        for batch in self.batches(name, columns):
            yield from batch.to_pylist()

    def count(self, name: str) -> int:
        """How many rows a table has."""
        with pq.ParquetFile(self.file(f"{name}.parquet")) as file:
            return int(file.metadata.num_rows)

    def _view(self, name: str) -> None:
        source = _quoted(self.file(f"{name}.parquet"))
        self._database.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet({source})")


class TableWriter:
    """Collects rows and writes them some thousand at a time."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._file, self._schema = file, schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class Documents:
    """Bytes of any length, written one after the other and read again in any order by offset and size.

    Only offsets and sizes are in tables: a sort by DuckDB of 50,000 texts
    of 2 KB fails with 128 MB.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.open("w+b")
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, data: bytes) -> tuple[int, int]:
        """Append bytes; returns their offset and size."""
        offset = self._end
        self._file.write(data)
        self._end += len(data)
        return offset, len(data)

    def flush(self) -> None:
        """To be called between the last ``add`` and the first ``read``."""
        self._file.flush()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that were added."""
        return os.pread(self._file.fileno(), size, offset)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
