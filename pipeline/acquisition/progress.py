"""Progress of fetch by host, from finished partitions and from the progress files of running ones."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.progress import ProgressFile, live
from surd.schemas import Pair, Status

_PLAIN = re.compile(r"https?://([a-z0-9.-]+)(?::\d{1,5})?/")  # for these urlsplit gives the same host
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
    """Writes the progress of one partition to its progress file."""

    def __init__(self, file: ProgressFile, total: int) -> None:
        self._file = file
        self._progress = FetchProgress(total=total, started=file.started)

    def note(self, url: str | None, pair: Pair, *, resumed: bool) -> None:
        """Count a finished row."""
        self._progress.count(host_of(url), pair.kept, pair.reason, pair.size)
        self._progress.resumed += resumed
        if self._file.is_due():
            self.write()

    def write(self) -> None:
        """Write the counts as they are."""
        summary = FetchProgress(self._progress.total, self._progress.resumed, self._progress.started)
        summary.hosts = dict(self._progress.busiest(MOST_HOSTS))
        self._file.write(_JSON.dump_json(summary, by_alias=True))


def from_file(build: Build, unit: int, since: float) -> FetchProgress | None:
    """The counts of a running partition, or None if it has told none since ``since``."""
    return live(build, "fetch", unit, since, _JSON)


def from_rows(build: Build, unit: int) -> FetchProgress:
    """The counts of a finished partition, from its rows."""
    urls = build.read_table(part_file("collect", unit), columns=["url"])["url"].to_pylist()
    rows = build.read_table(part_file("fetch", unit), columns=["status", "reason", "size"]).to_pylist()
    progress = FetchProgress(total=len(rows))
    for url, row in zip(urls, rows, strict=True):
        progress.count(host_of(url), row["status"] == Status.KEPT, row["reason"], row["size"])
    return progress


def host_of(url: str | None) -> str:
    """The host of a record's URL; SOURCE if it has none."""
    if plain := _PLAIN.match(url or ""):
        return plain[1]
    try:
        return urlsplit(url or "").hostname or SOURCE
    except ValueError:
        return SOURCE
