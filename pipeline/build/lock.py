"""One run at a time on a build: the system's lock on a folder of this machine, a lease on an object store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from surd.pipeline.build.folder import Build
from surd.pipeline.build.lease import LeaseTimes, Owner, held, leased
from surd.schemas import SurdError

LOCK = ".surd.lock"
_OWNER = ".surd.lock.json"  # beside the lock file, which filelock empties whenever a process asks for it
_TIMES = LeaseTimes()
Check = Callable[[], None]


@contextmanager
def exclusive(build: Build, times: LeaseTimes = _TIMES) -> Iterator[Check]:
    """Hold a build while the block lasts; a folder that the block leaves empty is removed again.

    On this machine the operating system ends the lock with its process, so a killed run leaves none behind. On an
    object store a lease takes its place. Gives a check to be called now and then: it raises SurdError when another run
    has taken over. Raises SurdError that says who holds the build and since when, or that it cannot be written.
    """
    folder = build.local_path("")
    if folder is None:
        with leased(build, times) as lease:
            yield lease.check if lease else _unchecked
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        (folder / _OWNER).write_text(json.dumps(asdict(Owner.this_process())))
    except Timeout:
        raise held(build.root, _owner(folder)) from None
    except OSError as error:
        lock.release()
        why = error.strerror or error.__class__.__name__
        raise SurdError(
            f"out is {build.root!r} and cannot be written ({why}); give a folder that you may write"
        ) from None
    try:
        yield _unchecked
    finally:
        (folder / _OWNER).unlink(missing_ok=True)
        if made and not any(path.is_file() for path in folder.rglob("*") if path.name != LOCK):
            shutil.rmtree(folder, ignore_errors=True)
            made.remove(folder)
        lock.release()
        with suppress(OSError):  # not empty: the run has written something
            for path in made:
                path.rmdir()


def _owner(folder: Path) -> Owner | None:
    try:
        return Owner.parse((folder / _OWNER).read_bytes())
    except OSError:
        return None


def _unchecked() -> None:
    """The system's lock cannot be lost."""
