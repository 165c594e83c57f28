"""Files on this machine that appear whole under their name or not at all, and what killed writers leave of them."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def temporary_name(name: str) -> str:
    """A name beside ``name`` that no other writer has: two runs on one folder do not take each other's file away."""
    return f"{name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that appears at ``path`` only when the block ends well: temporary name, fsync, rename.

    Also removes what killed writers of the same file left. Not ``durable``, for many small files: without both.
    """
    file, temporary = _create(path)
    try:
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            temporary.replace(path)  # before the file is closed, which gives up its lock
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _remove_leftovers(path)


def _create(path: Path) -> tuple[IO[bytes], Path]:
    """A new temporary file and its path. It is locked until it is closed: so nobody takes it for a leftover."""
    while True:
        temporary = Path(temporary_name(str(path)))
        file = temporary.open("xb")
        with suppress(OSError):  # a filesystem without locks: there nothing is taken for a leftover
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink:
            return file, temporary
        file.close()  # removed as a leftover between the two calls above


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` whose writers are dead: the system has released their locks."""
    leftover = re.compile(re.escape(path.name) + r"(?:\.[0-9a-f]{8})?\.tmp")  # without digits: as older versions wrote
    for entry in os.scandir(path.parent):
        if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with suppress(OSError), Path(entry.path).open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(entry.path).unlink()
