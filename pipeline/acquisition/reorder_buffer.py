"""Reorder buffer: keeps out-of-order results until their row is next; spills to a temporary file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, NamedTuple


class Spilled(NamedTuple):
    """Bytes in the buffer: in memory, or at ``offset`` of the file."""

    data: bytes
    offset: int = 0
    size: int = 0


NOTHING = Spilled(b"")


class ReorderBuffer:
    """Rows are put in any order and popped in theirs; the next ``in_memory`` rows stay in memory.

    The file has no name, is in ``folder``, and is gone when the buffer is closed.
    """

    def __init__(self, folder: Path | None, in_memory: int) -> None:
        self._folder, self._in_memory = folder, in_memory
        self._next = 0  # row
        self._end = 0  # of the file
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        if self._file:
            self._file.close()

    def put(self, row: int, data: bytes) -> Spilled:
        """Store the bytes of a row."""
        if not data or row < self._next + self._in_memory:
            return Spilled(data)
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - closed by close()
        start, rest = self._end, memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, self._end)
            self._end, rest = self._end + written, rest[written:]
        return Spilled(b"", start, len(data))

    def pop_next(self, spilled: Spilled) -> bytes:
        """The bytes of the next row, as ``put`` returned them."""
        self._next += 1
        if not spilled.size:
            return spilled.data
        assert self._file is not None, "put has written to the file"
        return os.pread(self._file.fileno(), spilled.size, spilled.offset)
