"""One run at a time on a build's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from surd.pipeline.build.folder import Build
from surd.schemas import SurdError

LOCK = ".surd.lock"


@contextmanager
def exclusive(build: Build) -> Iterator[Build]:
    """Hold the folder of a build while the block lasts; a folder that the block leaves empty is removed again.

    The operating system ends the lock with its process, so a killed run leaves none behind. A build on an object
    store is not locked. Raises SurdError if another process holds the folder, or if it cannot be written.
    """
    folder = build.local_path("")
    if folder is None:
        yield build
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise SurdError(
            f"out is {build.root!r}: another run is working in that folder; wait until it has ended, or use another"
            " folder"
        ) from None
    except OSError as error:
        why = error.strerror or error.__class__.__name__
        raise SurdError(
            f"out is {build.root!r} and cannot be written ({why}); give a folder that you may write"
        ) from None
    try:
        yield build
    finally:
        if made and not any(path.is_file() for path in folder.rglob("*") if path.name != LOCK):
            shutil.rmtree(folder, ignore_errors=True)
            made.remove(folder)
        lock.release()
        with suppress(OSError):  # not empty: the run has written something
            for path in made:
                path.rmdir()
