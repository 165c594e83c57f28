"""Progress of fetch by host, from finished partitions and from the progress files of running ones.

A running partition writes its counts to ``fetch/part-NNNNN.progress.json`` about every second, so that they can be read
wherever it runs: on a thread, in a process, or on another machine with the same file system. The file is removed when
the partition is done.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError

from surd.pipeline.build.folder import Build, part_file
from surd.schemas import Pair, Status

_PLAIN = re.compile(r"https?://([a-z0-9.-]+)(?::\d{1,5})?/")  # for these urlsplit gives the same host
EVERY = 1.0  # seconds between two writes of a progress file
MOST_HOSTS = 50  # listed by name; the others are added up
OTHERS, SOURCE = "other hosts", "(the source)"


@dataclass
class HostCount:
    """Counts of one host: images requested, images kept, their bytes, and reasons of rejection."""

    images: int = 0
    kept: int = 0
    size: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: HostCount) -> None:
        self.images, self.kept = self.images + other.images, self.kept + other.kept
        self.size += other.size
        self.reasons.update(other.reasons)


@dataclass
class FetchProgress:
    """How far fetch is. ``resumed``: images that an earlier run had downloaded, which do not count in the speed."""

    total: int = 0
    resumed: Annotated[int, Field(alias="earlier")] = 0  # the file's name for it
    started: float = 0.0  # seconds since the epoch
    hosts: dict[str, HostCount] = field(default_factory=dict)

    @property
    def all_hosts(self) -> HostCount:
        sums = HostCount()
        for host in self.hosts.values():
            sums.add(host)
        return sums

    def add(self, host: str, count: HostCount) -> None:
        self.hosts.setdefault(host, HostCount()).add(count)

    def count(self, host: str, kept: bool, reason: str | None, size: int | None) -> None:
        """Count a row."""
        of_host = self.hosts.get(host) or self.hosts.setdefault(host, HostCount())
        of_host.images += 1
        of_host.kept += kept
        of_host.size += size or 0
        if reason:
            of_host.reasons[str(reason)] += 1

    def join(self, other: FetchProgress) -> None:
        """Add the counts of another partition."""
        self.total, self.resumed = self.total + other.total, self.resumed + other.resumed
        for host, count in other.hosts.items():
            self.add(host, count)

    def busiest(self, most: int) -> list[tuple[str, HostCount]]:
        """The hosts with the most images, the busiest first; those beyond ``most`` added up as one."""
        ordered = sorted(self.hosts.items(), key=lambda item: (item[0] == OTHERS, -item[1].images, item[0]))
        shown, rest = ordered[:most], ordered[most:]
        if rest:
            others = HostCount()
            for _, count in rest:
                others.add(count)
            shown.append((OTHERS, others))
        return shown


_JSON = TypeAdapter(FetchProgress)


class Reporter:
    """Writes the progress of one partition to the file at ``path``; nothing if that is None."""

    def __init__(self, path: Path | None, total: int) -> None:
        self._path, self._written = path, 0.0
        self._progress = FetchProgress(total=total, started=time.time())

    def note(self, url: str | None, pair: Pair, *, resumed: bool) -> None:
        """Count a finished row."""
        self._progress.count(host_of(url), pair.kept, pair.reason, pair.size)
        self._progress.resumed += resumed
        now = time.monotonic()
        if self._path and now - self._written >= EVERY:
            self._written = now
            self._write(self._path)

    def close(self) -> None:
        if self._path:
            self._path.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        summary = FetchProgress(self._progress.total, self._progress.resumed, self._progress.started)
        summary.hosts = dict(self._progress.busiest(MOST_HOSTS))
        temporary = path.with_name(f"{path.name}.tmp")
        with suppress(OSError):  # a full disk is reported by the code that needs the space
            temporary.write_bytes(_JSON.dump_json(summary, by_alias=True))
            temporary.replace(path)


def live(build: Build, unit: int, since: float) -> FetchProgress | None:
    """The progress file of a running partition, or None if it has none or a run begun before ``since`` left it."""
    path = progress_file(build, unit)
    try:
        progress = _JSON.validate_json(path.read_bytes()) if path else None
    except (OSError, ValidationError):
        return None
    return progress if progress and progress.started >= since else None


def from_rows(build: Build, unit: int) -> FetchProgress:
    """The counts of a finished partition, from its rows."""
    urls = build.read_table(part_file("collect", unit), columns=["url"])["url"].to_pylist()
    rows = build.read_table(part_file("fetch", unit), columns=["status", "reason", "size"]).to_pylist()
    progress = FetchProgress(total=len(rows))
    for url, row in zip(urls, rows, strict=True):
        progress.count(host_of(url), row["status"] == Status.KEPT, row["reason"], row["size"])
    return progress


def progress_file(build: Build, unit: int) -> Path | None:
    return build.local_path(f"fetch/part-{unit:05d}.progress.json")


def host_of(url: str | None) -> str:
    """The host of a record's URL; SOURCE if it has none."""
    if plain := _PLAIN.match(url or ""):
        return plain[1]
    try:
        return urlsplit(url or "").hostname or SOURCE
    except ValueError:
        return SOURCE
