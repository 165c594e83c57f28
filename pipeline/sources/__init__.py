"""Turns a source string of the config into something that can be paged through: one module a kind of source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from schemas import BuildConfig, SourceRecord, SurdError


@dataclass(frozen=True)
class Page:
    """Records of one request, and the cursor of the next; no cursor means that this was the last."""

    records: list[SourceRecord]
    next_cursor: str | None


class Source(Protocol):
    """Where records come from. Use it in a ``with`` block: a source may hold connections, or a server of its own."""

    name: str

    def fingerprint(self) -> str:
        """What a change of makes the collected records stale; cheap, and usable outside the ``with`` block."""

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; None is the first. Raises SurdError when the source does not give it."""

    def location(self, url: str) -> str | Path:
        """Where a record's ``url`` really is: an http(s) URL, or a path. Raises ValueError when it may not be read."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(settings: BuildConfig) -> Source:
    """The source that ``settings.source`` names. Raises SurdError when there is no such kind, URL or folder."""
    kind, _, rest = settings.source.partition(":")
    if settings.source == "demo":
        from pipeline.sources.demo import DemoGallery

        return DemoGallery(settings)
    if kind == "gallery" and rest:
        from pipeline.sources.gallery import Gallery

        return Gallery(settings.source, rest, settings)
    if kind == "folder" and rest:
        from pipeline.sources.folder import Folder

        return Folder(rest)
    raise SurdError(f"config field 'source' is {settings.source!r}; give demo, gallery:URL or folder:PATH")


def new_record(source: str, source_id: str, **fields: Any) -> SourceRecord:
    """A record under the key that ``source`` and ``source_id`` make."""
    key = hashlib.sha256(f"{source}\0{source_id}".encode()).hexdigest()[:16]
    return SourceRecord(key=key, source=source, source_id=source_id, **fields)
