"""How far a running unit is: counted where it runs, and told in a small file for the driver of the run.

``<stage>/part-NNNNN.progress.json`` is written about every second, so that it can be read wherever the unit runs: on a
thread, in a process, or on another machine with the same file system. It is removed when the unit ends, and what a
killed run left of it is older than the run that finds it. A build on an object store has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from surd.pipeline.build.folder import Build

EVERY = 1.0  # seconds between two writes of a progress file; a unit that takes less writes none

T = TypeVar("T")


class UnitProgress:
    """Counts a unit's way through its records. ``tell`` is called after every count, and has to be quick.

    A unit may go through its records more than once; only passes that are expected count, each once and all alike.
    """

    def __init__(self, tell: Callable[[UnitProgress], object] = lambda progress: None) -> None:
        self._tell = tell
        self._begun: set[Hashable] = set()
        self.expect(None)

    def expect(self, *passes: Hashable) -> None:
        """Name the passes to come, where there is not one alone."""
        self._shares = dict.fromkeys(passes, 0.0)

    @property
    def share(self) -> float:
        """How much of the unit's work is done, 0 to 1."""
        return sum(self._shares.values()) / max(1, len(self._shares))

    def begin(self, of: int, name: Hashable = None) -> Callable[[int], None]:
        """A pass over so many records (or texts, or questions) begins; the function it gives counts those done."""
        if not of or name not in self._shares or name in self._begun:
            return lambda count: None
        self._begun.add(name)
        done = 0

        def add(count: int) -> None:
            nonlocal done
            done += count
            self._shares[name] = min(1.0, done / of)
            self._tell(self)

        return add

    def counted(self, records: Iterable[T], of: int, name: Hashable = None) -> Iterator[T]:
        """The records of a pass; each counts when the next one is asked for."""
        add = self.begin(of, name)
        for record in records:
            yield record
            add(1)


class ProgressFile:
    """The progress file of one unit that runs here. Where ``path`` is None, nothing is written."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._written = path, time.monotonic()
        self.started = time.time()

    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return self._path is not None and time.monotonic() - self._written >= EVERY

    def write(self, document: bytes) -> None:
        """Replace what was written before."""
        self._written = time.monotonic()
        if not self._path:
            return
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with suppress(OSError):  # a full disk is reported by the code that needs the space
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(document)
            temporary.replace(self._path)

    def remove(self) -> None:
        """Remove it, also one that a killed run left."""
        if self._path:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


class Started(Protocol):
    """What a progress file holds."""

    @property
    def started(self) -> float:
        """When its unit began, in seconds since the epoch."""


P = TypeVar("P", bound=Started)


@dataclass(frozen=True)
class _Share:
    started: float
    share: Annotated[float, Field(ge=0, le=1)]


_SHARE = TypeAdapter(_Share)


@contextmanager
def progress_file(build: Build, stage: str, unit: int) -> Iterator[ProgressFile]:
    """The progress file of the unit that the block runs."""
    file = ProgressFile(_path(build, stage, unit))
    try:
        yield file
    finally:
        file.remove()


@contextmanager
def counting(build: Build, stage: str, unit: int) -> Iterator[None]:
    """Tells what ``build.progress`` counts while the block runs a unit, in the unit's progress file."""
    with progress_file(build, stage, unit) as file:

        def tell(progress: UnitProgress) -> None:
            if file.is_due():
                file.write(_SHARE.dump_json(_Share(file.started, progress.share)))

        build.progress = UnitProgress(tell)
        try:
            yield
        finally:
            build.progress = UnitProgress()


def live(build: Build, stage: str, unit: int, since: float, form: TypeAdapter[P]) -> P | None:
    """What a running unit has written, or None if it has not, or began before ``since``, in an earlier run."""
    path = _path(build, stage, unit)
    try:
        progress = form.validate_json(path.read_bytes()) if path else None
    except (OSError, ValidationError):
        return None
    return progress if progress and progress.started >= since else None


def live_share(build: Build, stage: str, unit: int, since: float) -> float:
    """How much of a running unit is done, 0 to 1, as far as it has told; see ``live``."""
    progress = live(build, stage, unit, since, _SHARE)
    return progress.share if progress else 0.0


def remove_leftovers(build: Build, stage: str) -> None:
    """Remove the progress files of a stage, none of whose units run: a killed run left them."""
    folder = build.local_path(stage)
    for path in folder.glob("part-*.progress.json*") if folder else ():
        with suppress(OSError):
            path.unlink()


def _path(build: Build, stage: str, unit: int) -> Path | None:
    return build.local_path(f"{stage}/part-{unit:05d}.progress.json")
