"""The journal of a partition whose build is on an object store: a file here, sent there in segments.

An object cannot be appended to. So ``fetch/part-NNNNN.journal/`` holds files 00001, 00002, ...: each is the header line
and the entries since the one before, as in a journal on a disk. A segment is sent when it has an eighth of the
partition's images, enough bytes, or has waited long enough: that bounds the requests, and what a kill costs. When the
partition is done they are replaced by 00000, the finished journal.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from surd.pipeline.acquisition.journal import Journal, backup
from surd.pipeline.build.folder import Build, part_journal, part_tar
from surd.pipeline.net.downloader import Download
from surd.pipeline.rejection import Rejected
from surd.schemas import Pair, SourceRecord, SurdError
from surd.schemas.config import FetchConfig

_SEGMENTS = 8  # of a partition that is fetched without a pause
_MOST_BYTES = 64 << 20
_MOST_SECONDS = 60.0
_FINISHED = "00000"


class StoredJournal(Journal):
    """As ``Journal``; what is recorded is in the store once its segment is. Use it in a with block."""

    def __init__(self, build: Build, part: int, records: Sequence[SourceRecord], settings: FetchConfig) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self._scratch.name)
        super().__init__(folder / "journal", folder / "tar", records, settings)
        self._build, self._part, self._folder = build, part, part_journal(part)
        self._most = -(-len(records) // _SEGMENTS)
        self._names: list[str] = []  # of segments in the store
        self._sent = self._waiting = 0  # bytes of the file that are sent, entries that are not
        self._since = 0.0  # when the first of these entries came
        self._sender = ThreadPoolExecutor(1)  # while it sends, images arrive
        self._sending: Future[None] | None = None

    def __enter__(self) -> StoredJournal:
        self._names = self._build.names_below(self._folder)
        self._restore()
        super().__enter__()
        self._sent = self._path.stat().st_size
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if any(error):  # so that a passing failure costs no image
                with suppress(OSError, SurdError):
                    self._send_rest()
        finally:
            self._sender.shutdown()
            super().__exit__()
            self._scratch.cleanup()

    def record(self, key: str, download: Download) -> None:
        """Add a download; it is in the store with the next segment."""
        super().record(key, download)
        self._count()

    def record_rejection(self, key: str, rejected: Rejected) -> None:
        """Add a rejection, unless it is transient."""
        super().record_rejection(key, rejected)
        if not rejected.transient:
            self._count()

    def finish(self, pairs: Sequence[Pair]) -> None:
        """As ``Journal.finish``, in the store."""
        super().finish(pairs)
        if self._keeps_bodies(pairs):
            self._send_rest()
            return
        if self._sending:
            self._sending.result()
        self._build.send(f"{self._folder}/{_FINISHED}", self._path.read_bytes())
        self._build.remove_files(f"{self._folder}/{name}" for name in self._names if name != _FINISHED)

    def _restore(self) -> None:
        """Put together the files that a journal on a disk has: its own, and that of other settings as a backup."""
        other: bytes | None = None
        for name in self._names:
            header, end, entries = self._build.read_bytes(f"{self._folder}/{name}").partition(b"\n")
            is_own = self._belongs(header + end)
            other = header if other is None and not is_own else other
            if not is_own and header != other:
                continue
            path = self._path if is_own else backup(self._path)
            with path.open("ab") as file:
                file.write(entries if file.tell() else header + end + entries)
            if name == _FINISHED:
                with suppress(FileNotFoundError):
                    self._build.download(part_tar("fetch", self._part), self._tar if is_own else backup(self._tar))

    def _count(self) -> None:
        """Send what is waiting if it is enough, unless the last segment is still on its way."""
        now = time.monotonic()
        self._since = self._since if self._waiting else now
        self._waiting += 1
        size = self._path.stat().st_size - self._sent
        if self._waiting >= self._most or size >= _MOST_BYTES or now - self._since >= _MOST_SECONDS:
            self._send(wait=False)

    def _send_rest(self) -> None:
        self._send(wait=True)
        if self._sending:
            self._sending.result()

    def _send(self, *, wait: bool) -> None:
        """Send the entries that are waiting. Raises what the last segment's sending raised."""
        if self._sending:
            if not wait and not self._sending.done():
                return
            self._sending.result()
        end = self._path.stat().st_size
        if not self._waiting:
            return
        with self._path.open("rb") as file:
            entries = os.pread(file.fileno(), end - self._sent, self._sent)
        name = f"{int(self._names[-1]) + 1 if self._names else 1:05d}"
        self._names.append(name)
        self._sending = self._sender.submit(self._build.send, f"{self._folder}/{name}", self._header + entries)
        self._sent, self._waiting = end, 0
