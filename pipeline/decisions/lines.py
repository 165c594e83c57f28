"""A file of lines beside a build, appended by any number of writers, also while a run holds the build.

On this machine a line is appended under the system's lock on the file. An object cannot be appended to, so elsewhere
each call writes a small object of its own, named by time, into a folder beside the file; ``fold`` joins them into it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from surd.pipeline.build.atomic import atomic_file
from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.schemas import SurdError


class Lines:
    """The lines of ``file``, NAME.jsonl; on an object store what was appended since lies in the folder NAME."""

    def __init__(self, build: Build, file: str) -> None:
        self._build, self._file = build, file
        self._path = build.local_path(file)
        self._folder = file.removesuffix(".jsonl")

    def append(self, data: bytes) -> None:
        """Add whole lines; they are on the disk, or in the store, when it returns.

        Raises SurdError where the file cannot be written.
        """
        if self._path is None:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.jsonl"
            self._build.put_file(f"{self._folder}/{name}", data)
            return
        try:
            with _locked(self._path) as file:
                _append(file, data)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SurdError(
                f"{self._build.path(self._file)} cannot be written ({why}); nothing was added: give a build that you"
                " may write"
            ) from None

    def read(self) -> list[bytes]:
        """All lines that are not empty, the oldest first. Raises SurdError where they cannot be read."""
        if self._path is not None:
            return _split(self._stored())
        names = self._segments()  # before the file: what is folded in between is in both
        segments = self._build.read_many(f"{self._folder}/{name}" for name in names) if names else []
        lines = _split(self._stored())
        folded = set(lines)
        for data in segments:
            if isinstance(data, FileNotFoundError):  # folded since
                continue
            if isinstance(data, OSError):
                raise data
            lines += [line for line in _split(data) if line not in folded]
        return lines

    def fold(self) -> None:
        """Join what was appended on an object store into the file. Only while the build is held."""
        if self._path is None and self._segments():
            self.change(lambda line: line)

    def change(self, change: Callable[[bytes], bytes | None]) -> None:
        """Replace lines, or take out those of which ``change`` gives None. Only while the build is held."""
        if self._path is None:
            self._change_stored(change)
        elif self._path.exists():
            with _locked(self._path):  # a writer that waits for it finds the new file
                before = _split(self._path.read_bytes())
                after = [line for one in before if (line := change(one)) is not None]
                if after != before:
                    with atomic_file(self._path) as file:
                        file.write(_joined(after))

    def _change_stored(self, change: Callable[[bytes], bytes | None]) -> None:
        """A kill before the objects are removed leaves lines that are there twice, which ``read`` passes over."""
        segments, before = self._segments(), self.read()
        after = [line for one in before if (line := change(one)) is not None]
        if segments or after != before:
            self._build.send(self._file, _joined(after))
            self._build.remove_files(f"{self._folder}/{name}" for name in segments)

    def _segments(self) -> list[str]:
        return self._build.names_below(self._folder)

    def _stored(self) -> bytes:
        try:
            return self._build.read_bytes(self._file)
        except FileNotFoundError:
            return b""
        except (IsADirectoryError, PermissionError) as error:
            raise DamagedFile(self._build, self._file, f"cannot be read ({error.strerror})") from None


def _split(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line.strip()]


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file's descriptor, at its end for writing; nobody else appends to it or replaces it in the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a filesystem without locks: there an append is one call at least
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return
        finally:
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether a file still has this name: it may have been replaced while the lock was waited for."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _append(file: int, data: bytes) -> None:
    """Write at the end, on a line of its own, and to the disk; nothing is left of what could not be written whole."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data  # the line before is a killed writer's
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
