"""A lease on a build on an object store: who works on it, with a heartbeat that shows that the owner is still at work.

A run creates ``.surd.lease/NNNNNN.json`` with one conditional request, which succeeds for one of any number of runs,
and writes it anew every few seconds. Who finds a lease watches it. When it changes, its owner is alive. When it does
not for ``LeaseTimes.stopped`` seconds, the next number is created in the same way and the old one removed. All that is
compared is whether the file has changed, by the watcher's own monotonic clock: no machine's time of day matters.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

from surd.pipeline.build.folder import Build
from surd.schemas import SurdError

log = logging.getLogger(__name__)
FOLDER = ".surd.lease"


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """Seconds: from heartbeat to heartbeat, without one until a lease counts as left behind, from look to look."""

    beat: float = 10.0
    stopped: float = 60.0
    look: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a build. ``since`` is that machine's time, for people to read."""

    host: str
    pid: int
    user: str
    since: str

    @classmethod
    def this_process(cls) -> Owner:
        """This process, from now on."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(host=socket.gethostname(), pid=os.getpid(), user=_user(), since=since)

    @classmethod
    def parse(cls, data: bytes) -> Owner | None:
        """The owner that a lease or lock file names; None where it cannot be read."""
        try:
            document = json.loads(data)
            return cls(**{name: document[name] for name in ("host", "pid", "user", "since")})
        except (ValueError, LookupError, TypeError):
            return None


def held(root: str, owner: Owner | None) -> SurdError:
    """The error of a second run on a build."""
    return SurdError(
        f"out is {root!r}: another run is working in that folder{_who(owner)}; wait until it has ended, or use"
        " another folder"
    )


class Lease:
    """A lease that this process holds; a thread renews it until ``release``."""

    def __init__(self, build: Build, number: int, times: LeaseTimes) -> None:
        self._build = Build(build.root)  # of its own: the thread's writes are no outputs of a stage
        self.number, self._times = number, times
        self._document = asdict(Owner.this_process()) | {"lease": uuid4().hex}
        self._beats = 0
        self._taken_by: SurdError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def create(self) -> bool:
        """Whether this process is the one that created the lease."""
        return self._build.put_file(_file(self.number), self._data(), create=True)

    def start(self) -> None:
        """Renew it from now on."""
        self._thread.start()

    def check(self) -> None:
        """Raise SurdError when another run has taken the build over, since this process had stopped for long."""
        if self._taken_by:
            raise self._taken_by

    def release(self) -> None:
        """End the lease; what another run has taken over stays."""
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        if not self._taken_by:
            self._build.remove_files([_file(self.number)])

    def _data(self) -> bytes:
        return json.dumps(self._document | {"beats": self._beats}).encode()

    def _renew(self) -> None:
        while not self._stop.wait(self._times.beat):
            try:
                numbers = _numbers(self._build)
                if self.number not in numbers or numbers[-1] != self.number:
                    self._taken_by = self._lost(numbers)
                    return
                self._beats += 1
                self._build.put_file(_file(self.number), self._data())
            except (OSError, SurdError) as error:  # as long as the store does not answer, nobody else gets the lease
                log.warning("the lease on %s could not be renewed (%s)", self._build.root, error)

    def _lost(self, numbers: list[int]) -> SurdError:
        owner = Owner.parse(_read(self._build, numbers[-1]) or b"") if numbers else None
        return SurdError(
            f"out is {self._build.root!r}: this run gave no sign of life for {self._times.stopped:g} s, and another run"
            f" has taken over{_who(owner)}; run again when that has ended"
        )


@contextmanager
def leased(build: Build, times: LeaseTimes) -> Iterator[Lease | None]:
    """Hold a build by a lease while the block lasts; None where the file system has no conditional write."""
    if not _has_conditional_writes(build):
        log.warning(
            "out is %r: its file system has no write that fails when the file exists, so nothing keeps a second run off"
            " this build; start one at a time",
            build.root,
        )
        yield None
        return
    lease = _acquire(build, times)
    try:
        lease.start()
        yield lease
    finally:
        lease.release()


def _has_conditional_writes(build: Build) -> bool:
    """Asked of the store itself: some servers take a condition and ignore it."""
    probe = f"{FOLDER}/probe-{uuid4().hex}"
    try:
        return build.put_file(probe, b"", create=True) and not build.put_file(probe, b"", create=True)
    except (NotImplementedError, TypeError, ValueError):
        return False
    finally:
        build.remove_files([probe])


def _acquire(build: Build, times: LeaseTimes) -> Lease:
    while True:
        left_behind = _numbers(build)
        for number in left_behind:
            _watch(build, number, times)
        lease = Lease(build, max(left_behind, default=0) + 1, times)
        if not lease.create():
            continue
        # A run that looked before another's lease ended may create a number beside that of a third.
        others = set(_numbers(build)) - {lease.number, *left_behind}
        if others:
            lease.release()
            continue
        build.remove_files(map(_file, left_behind))
        return lease


def _watch(build: Build, number: int, times: LeaseTimes) -> None:
    """Return when a lease has ended or its owner has stopped. Raises SurdError when the owner is alive."""
    first, started = _read(build, number), time.monotonic()
    while time.monotonic() - started < times.stopped:
        now = _read(build, number)
        if now is None:
            return
        if now != first:
            raise held(build.root, Owner.parse(now))
        time.sleep(times.look)


def _who(owner: Owner | None) -> str:
    return f" ({owner.user} on {owner.host}, process {owner.pid}, since {owner.since})" if owner else ""


def _numbers(build: Build) -> list[int]:
    names = (name.removesuffix(".json") for name in build.sizes(FOLDER))
    return sorted(int(name) for name in names if name.isdecimal())


def _file(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _read(build: Build, number: int) -> bytes | None:
    found = build.read_many([_file(number)])[0]
    if isinstance(found, FileNotFoundError):
        return None
    if isinstance(found, OSError):
        raise found
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return str(os.getuid())
