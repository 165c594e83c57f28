"""Stage collect: reads a source page by page into partitions of records; after a kill it continues at the next page.

Of a source that was collected before, records stay in their partitions: see ``pipeline/build/partitions.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from pydantic import ValidationError

from surd.pipeline import untrusted_json
from surd.pipeline.acquisition.tombstones import Tombstones
from surd.pipeline.batching import batched
from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.build.partitions import in_former_partitions, read_former
from surd.pipeline.deduplication.placeholders import ENOUGH, MAX_CHARS, REPEATS, unlike_prompts
from surd.pipeline.models import Models
from surd.pipeline.net.urls import redact_secrets, redact_text
from surd.pipeline.sources import Page, Source, WebSource, open_source
from surd.schemas import BuildConfig, SourceRecord, SurdError
from surd.schemas.printable import printable

log = logging.getLogger(__name__)
BARREN = 50  # pages without a new record; a filter may empty some pages, but not so many if there is more to come
END = "collect/end.json"
MAX_REPEATED = 100_000  # ids of which further prompts are remembered
PAGES = "collect/pages"  # until collect is done
#: The columns of a record that go on to shards, reports and exports, or may be shown.
_SHOWN = (
    "detail", "page_url", "prompt", "negative_prompt", "params", "author", "licence", "terms", "created_at", "extra",
)  # fmt: skip
_SOURCE = f"{PAGES}/source.json"


def collect(build: Build, config: BuildConfig, models: Models) -> Iterator[Sequence[SourceRecord]]:
    """The records of the source, at most ``limit``, in partitions of ``partition_size``: in its order, or where they
    lay when this source was collected before.

    Of records with the same id the first counts; memory holds one partition, eight bytes per id (20 where the source
    was collected before), and some prompts of ids that come again. What ``surd forget`` removed stays a rejected row
    without content. ``collect/repeats.json`` holds, of ids under many unlike prompts, some of these for dedup.
    ``collect/end.json`` records the counts and why collecting ended. Raises SurdError if the source fails or is empty;
    the pages read by then stay on disk, and the next call requests only those that follow. Partitions that are there
    are written over when all pages are.
    """
    if config.limit == 0:
        return
    source = open_source(config)
    _drop_other_pages(source, build)
    present, size = _present(build), config.partition_size
    former = read_former(build, present, source.name, size)
    tally = Tally()
    try:
        with source:
            if present and former is None:
                for _ in _records(build, source, tally, config.limit):
                    pass  # each page is saved
                tally = Tally()
            records = _records(build, source, tally, config.limit)
            if former is None:
                yield from batched(records, size)
            else:
                yield from in_former_partitions(build, records, former, size)
    except SurdError as error:
        count = len(tally.seen)
        kept = f"; the {count} records so far are kept, and running again continues" if count else ""
        raise SurdError(f"{error}{kept}") from error
    if not len(tally.seen):
        build.remove(PAGES)  # else the next call would take them for the source's answer
        raise SurdError(f"config field 'source' is {source.name!r} and gave no records; give one that holds images")
    if tally.repeated:
        message = "%s gave %d records more than once; each counts once, where it came first"
        log.warning(message, source.name, tally.repeated)
    build.write_json(END, tally.end(source.name) | {"partition_size": size})
    build.remove(REPEATS)
    if repeats := tally.repeats():
        build.write_json(REPEATS, repeats)
    build.remove(PAGES)


def _present(build: Build) -> dict[str, Any] | None:
    """Source and, unless an earlier version made them, size of the partitions that are there; None if not all are."""
    if not build.part_count() or not build.exists(END):
        return None
    with reading(build, END):
        end = dict(untrusted_json.parse(build.read_bytes(END)))
        return {name: end[name] for name in ("source", "partition_size") if name in end}


class SeenKeys:
    """64-bit keys, eight bytes each: a set of the latest, and a sorted array of those before."""

    def __init__(self, latest: int = 100_000) -> None:
        self._size = latest
        self._latest: set[int] = set()
        self._sorted = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._latest) + len(self._sorted)

    def add(self, key: int) -> bool:
        """Add a key; returns whether it was new."""
        if key in self._latest:
            return False
        index = int(np.searchsorted(self._sorted, np.uint64(key)))
        if index < len(self._sorted) and int(self._sorted[index]) == key:
            return False
        self._latest.add(key)
        if len(self._latest) == self._size:
            self._sorted = np.sort(np.concatenate([self._sorted, np.fromiter(self._latest, np.uint64)]))
            self._latest.clear()
        return True


@dataclass
class Tally:
    """Counts of a source: keys of its records, repeated records, pages, and why collecting ended."""

    seen: SeenKeys = field(default_factory=SeenKeys)
    repeated: int = 0
    pages: int = 0
    why: str = "the source has no more"
    _prompts: dict[str, list[str]] = field(default_factory=dict)  # further ones of repeated records

    def end(self, source: str) -> dict[str, Any]:
        return {
            "source": source,
            "pages": self.pages,
            "records": len(self.seen),
            "repeated": self.repeated,
            "ended": self.why,
        }

    def new(self, records: list[SourceRecord]) -> Iterator[SourceRecord]:
        """Those that have not been seen before."""
        for record in records:
            if self.seen.add(int(record.key, 16)):
                yield record
            else:
                self.repeated += 1
                self._note(record)

    def _note(self, record: SourceRecord) -> None:
        """Remember a further prompt of a record, if it is unlike those before it."""
        if record.prompt and (record.key in self._prompts or len(self._prompts) < MAX_REPEATED):
            prompts = self._prompts.setdefault(record.key, [])
            if len(prompts) < ENOUGH:
                self._prompts[record.key] = unlike_prompts([*prompts, record.prompt[:MAX_CHARS]])

    def repeats(self) -> dict[str, list[str]]:
        """Key -> further prompts, of records that came with so many unlike ones that their picture is a placeholder."""
        return {key: prompts for key, prompts in sorted(self._prompts.items()) if len(prompts) >= ENOUGH - 1}


def _records(build: Build, source: Source, tally: Tally, limit: int | None) -> Iterator[SourceRecord]:
    """The source's new records up to its last page, or to the page after which it only repeats itself."""
    barren = 0
    for page in _pages(build, source, tally):
        before = len(tally.seen)
        for record in tally.new(page.records):
            yield record
            if len(tally.seen) == limit:
                tally.why = "the limit is reached"
                return
        barren = barren + 1 if len(tally.seen) == before else 0
        if barren == BARREN and isinstance(source, WebSource):  # a list on disk ends, however it repeats
            tally.why = f"{BARREN} pages in a row held nothing new, so its pages go in a circle"
            log.warning("%s: %s; collecting ends here", source.name, tally.why)
            return


def _pages(build: Build, source: Source, tally: Tally) -> Iterator[Page]:
    """Saved pages first, then pages from the source, saving each, until a cursor is repeated."""
    tombstones = Tombstones.read(build)
    cursors: set[str | None] = set()
    cursor: str | None = None
    for number in count():
        cursors.add(cursor)
        page = _saved(build, number)
        if page is None:
            page = source.page(cursor)
            page = Page([tombstones.applied(without_secrets(record)) for record in page.records], page.next_cursor)
            rows = [record.model_dump(mode="json") for record in page.records]
            build.write_json(_page_file(number), {"records": rows, "next_cursor": page.next_cursor})
        tally.pages += 1
        yield page
        log.info("%s: page %d, %d records", source.name, number + 1, len(tally.seen))
        cursor = page.next_cursor
        if cursor is None:
            return
        if cursor in cursors:
            tally.why = f"the cursor {cursor[:200]!r} came twice, so its pages go in a circle"
            log.warning("%s: %s; collecting ends here", source.name, tally.why)
            return


def without_secrets(record: SourceRecord) -> SourceRecord:
    """The record without passwords, keys and signatures of URLs in all but ``url``, from which its image is fetched."""
    texts = ((name, getattr(record, name)) for name in _SHOWN)
    redacted = {name: shown for name, text in texts if text and (shown := redact_text(text)) != text}
    if record.detail:
        redacted["detail"] = printable(redacted.get("detail", record.detail))
    if record.page_url:
        redacted["page_url"] = redact_secrets(record.page_url)
    return record.model_copy(update=redacted) if redacted else record


def _saved(build: Build, number: int) -> Page | None:
    """A page that an earlier call saved, or None."""
    if not build.exists(_page_file(number)):
        return None
    try:
        document = untrusted_json.parse(build.read_bytes(_page_file(number)))
        return Page([SourceRecord.model_validate(row) for row in document["records"]], document["next_cursor"])
    except (ValueError, KeyError, TypeError, ValidationError):  # written by another version
        return None


def _drop_other_pages(source: Source, build: Build) -> None:
    """Remove the pages of an unfinished collect of another source."""
    identity = {"source": source.name, "fingerprint": source.fingerprint()}
    if build.exists(_SOURCE) and untrusted_json.parse(build.read_bytes(_SOURCE)) == identity:
        return
    build.remove(PAGES)
    build.write_json(_SOURCE, identity)


def _page_file(number: int) -> str:
    return f"{PAGES}/{number:06d}.json"
