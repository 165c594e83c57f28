"""Turns bytes whose turn has not come into bytes when it comes: a few are held in memory, the others in a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, NamedTuple


class Spilled(NamedTuple):
    """Bytes on the shelf: either at hand, or in the file."""

    data: bytes
    offset: int = 0
    size: int = 0


NOTHING = Spilled(b"")


class ReorderBuffer:
    """Rows are finished in any order and taken in theirs: ``room`` of them ahead of the next one stay in memory.

    The file has no name, lies in ``folder`` and is gone when the shelf is closed.
    """

    def __init__(self, folder: Path | None, room: int) -> None:
        self._folder, self._room = folder, room
        self._next = 0  # row
        self._end = 0  # of the file
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        if self._file:
            self._file.close()

    def lay(self, row: int, data: bytes) -> Spilled:
        """Keep the bytes of a row."""
        if not data or row < self._next + self._room:
            return Spilled(data)
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - closed by close()
        start, rest = self._end, memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, self._end)
            self._end, rest = self._end + written, rest[written:]
        return Spilled(b"", start, len(data))

    def take(self, laid: Spilled) -> bytes:
        """The bytes of the next row."""
        self._next += 1
        if not laid.size:
            return laid.data
        assert self._file is not None, "what is in the file was laid there"
        return os.pread(self._file.fileno(), laid.size, laid.offset)
