"""Sources of records, one module per kind, opened by the source string of the config."""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, runtime_checkable

from surd.pipeline.net.urls import fill_from_environment, is_http, redact_secrets
from surd.pipeline.untrusted_json import without_controls
from surd.schemas import BuildConfig, SourceRecord, SurdError
from surd.schemas.entry_points import SOURCES, extension

PAGE = 1000  # records of a page where pages cost nothing
_ALONE = ("demo", "civitai")  # kinds that need nothing after them


class Readable(Protocol):
    """Bytes on disk or in memory: a path, a member of a tar, a cell of a table."""

    def open(self, mode: str) -> IO[bytes]:
        """A new file at the first byte. Raises OSError if they are gone."""


@dataclass(frozen=True)
class Page:
    """Records of one request, and the cursor of the next; no cursor means that this was the last."""

    records: list[SourceRecord]
    next_cursor: str | None


class Source(Protocol):
    """Where records come from. Use it in a ``with`` block: a source may hold connections, or a server of its own."""

    name: str

    def fingerprint(self) -> str:
        """A text that changes when the collected records become stale; cheap, and usable outside the ``with`` block."""

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; None is the first. Raises SurdError if it cannot be had."""

    def location(self, url: str) -> str | Readable:
        """The location of a record's image: an http(s) URL, or something to open.

        Raises ValueError if it must not be read and OSError if it cannot.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class WebSource(Protocol):
    """A source on the web; its images may also be at the origin that the user gave, even on the user's own machine."""

    @property
    def trusted_url(self) -> str:
        """The http(s) URL that the user gave, or that the source serves itself."""


class RecordStream:
    """A source on disk that is read once, front to back: pages of a thousand, the cursor is how many came before."""

    name: str
    _stream: Iterator[SourceRecord] | None = None
    _ahead: list[SourceRecord]
    _position = 0

    def records(self) -> Iterator[SourceRecord]:
        """All records in order, read lazily. Raises SurdError if there is nothing to read."""
        raise NotImplementedError

    def page(self, cursor: str | None) -> Page:
        """The next thousand; a cursor other than the last page's starts again and skips what came before."""
        start, stream = int(cursor or 0), self._stream
        if stream is None or start != self._position:
            stream = self.records()
            self._ahead = [*islice(stream, start, start + 1)]
        self._stream = None  # a stream that raised must not look like one at its end
        page = [*self._ahead, *islice(stream, PAGE - len(self._ahead))]
        self._ahead = [*islice(stream, 1)]
        self._stream, self._position = stream, start + len(page)
        return Page(page, str(self._position) if self._ahead else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream = None


# kind -> its class, made with the text after the colon and the config; imported when it is used
_KINDS = {
    "demo": "demo:DemoGallery",
    "gallery": "gallery:Gallery",
    "folder": "folder:Folder",
    "civitai": "civitai:Civitai",
    "lexica": "lexica:Lexica",
    "urls": "urls:UrlList",
    "img2dataset": "img2dataset:Img2dataset",
    "huggingface": "huggingface:HuggingFaceFolder",
    "authors": "authors:AuthorsSurd",
    "diffusiondb": "diffusiondb:DiffusionDb",
    "finished": "curated:CuratedSource",
}
SOURCES_WITH_PATHS = ("folder", "urls", "img2dataset", "huggingface", "authors", "diffusiondb")
KINDS = (
    "demo, civitai:?QUERY, lexica:WORDS, gallery:URL, folder:PATH, urls:FILE, img2dataset:FOLDER, huggingface:FOLDER, "
    "authors:FOLDER or diffusiondb:FOLDER"
)


def open_source(config: BuildConfig) -> Source:
    """The source of ``config.source``: one of surd's own kinds, or of an installed package's (group surd.sources).

    Raises SurdError if its kind, URL or folder is not valid.
    """
    kind, colon, rest = config.source.partition(":")
    if kind not in _KINDS and (own := extension(SOURCES, kind)):
        made: Source = own.load()(config, fill_from_environment(rest) if "://" in rest else rest)
        return made
    if kind not in _KINDS or bool(rest) != bool(colon) or (not rest and kind not in _ALONE):
        raise SurdError(f"config field 'source' is {redact_secrets(config.source)!r}; {_remedy(config.source, kind)}")
    module, _, name = _KINDS[kind].partition(":")
    if "://" in rest:
        rest = fill_from_environment(rest)
    source: Source = getattr(importlib.import_module(f"{__name__}.{module}"), name)(rest, config)
    return source


def _remedy(source: str, kind: str) -> str:
    """What the user may have meant by an unknown kind, or by one without what it needs."""
    if is_http(source):
        return f"for an API give gallery:{redact_secrets(source)}, for a list of images urls: before it"
    if close := next((name for name in difflib.get_close_matches(kind, _KINDS, n=1) if name != kind), None):
        return f"did you mean {close}?"
    with suppress(OSError, ValueError, RuntimeError):  # not a path
        path = Path(source).expanduser()
        if path.is_dir() or path.is_file():
            return f"did you mean {'folder' if path.is_dir() else 'urls'}:{source}?"
    return f"give {KINDS}"


def new_record(source: str, source_id: str, **fields: Any) -> SourceRecord:
    """A record under the key that ``source`` and ``source_id`` make, its prose without control characters."""
    for name in ("prompt", "negative_prompt", "author", "licence", "terms"):
        if fields.get(name):
            fields[name] = without_controls(fields[name]) or None
    key = hashlib.sha256(f"{source}\0{source_id}".encode()).hexdigest()[:16]
    return SourceRecord(key=key, source=source, source_id=source_id, **fields)
