"""Turns what becomes of each image into counts by host: of rows that are written, and of those under way, as they come.

A partition at work says how far it is in ``fetch/part-NNNNN.progress.json``, a second old at most; so whoever runs
partitions on threads, in processes or on other machines of one file system can tell. The file goes when it is done.
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

_PLAIN = re.compile(r"https?://([a-z0-9.-]+)(?::\d{1,5})?/")  # of which urlsplit would say the same
EVERY = 1.0  # seconds between two words of a partition
MOST_HOSTS = 50  # told by name; the others are told together
OTHERS, SOURCE = "other hosts", "(the source)"


@dataclass
class HostCount:
    """What one host was asked for, and what it gave."""

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
    started: float = 0.0  # seconds of the clock on the wall
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
        """One more row."""
        of_host = self.hosts.get(host) or self.hosts.setdefault(host, HostCount())
        of_host.images += 1
        of_host.kept += kept
        of_host.size += size or 0
        if reason:
            of_host.reasons[str(reason)] += 1

    def join(self, other: FetchProgress) -> None:
        """Add what another partition says."""
        self.total, self.resumed = self.total + other.total, self.resumed + other.resumed
        for host, count in other.hosts.items():
            self.add(host, count)

    def busiest(self, most: int) -> list[tuple[str, HostCount]]:
        """The hosts asked for most images, first the busiest; those beyond ``most`` as one."""
        ordered = sorted(self.hosts.items(), key=lambda item: (item[0] == OTHERS, -item[1].images, item[0]))
        shown, rest = ordered[:most], ordered[most:]
        if rest:
            others = HostCount()
            for _, count in rest:
                others.add(count)
            shown.append((OTHERS, others))
        return shown


_STATED = TypeAdapter(FetchProgress)


class Reporter:
    """Says how far one partition is, in the file at ``path``; nowhere where that is None."""

    def __init__(self, path: Path | None, total: int) -> None:
        self._path, self._told = path, 0.0
        self._progress = FetchProgress(total=total, started=time.time())

    def note(self, url: str | None, pair: Pair, *, resumed: bool) -> None:
        """One more row is done."""
        self._progress.count(host_of(url), pair.kept, pair.reason, pair.size)
        self._progress.resumed += resumed
        now = time.monotonic()
        if self._path and now - self._told >= EVERY:
            self._told = now
            self._write(self._path)

    def close(self) -> None:
        if self._path:
            self._path.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        told = FetchProgress(self._progress.total, self._progress.resumed, self._progress.started)
        told.hosts = dict(self._progress.busiest(MOST_HOSTS))
        temporary = path.with_name(f"{path.name}.tmp")
        with suppress(OSError):  # a full disk is told by whoever needs it
            temporary.write_bytes(_STATED.dump_json(told, by_alias=True))
            temporary.replace(path)


def live(build: Build, unit: int, since: float) -> FetchProgress | None:
    """The progress file of a running partition, or None if it has none or a run begun before ``since`` left it."""
    path = progress_file(build, unit)
    try:
        progress = _STATED.validate_json(path.read_bytes()) if path else None
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
    """The host of a record's URL; one without a host lies with the source."""
    if plain := _PLAIN.match(url or ""):
        return plain[1]
    try:
        return urlsplit(url or "").hostname or SOURCE
    except ValueError:
        return SOURCE
