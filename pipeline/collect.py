"""collect: turns a source, page by page, into partitions of source records; killed, it goes on after its last page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count

from pydantic import ValidationError

from pipeline import foreign_json
from pipeline.build import Build
from pipeline.models import Models
from pipeline.sources import Page, Source, open_source
from schemas import BuildConfig, SourceRecord, SurdError

log = logging.getLogger(__name__)
PAGES = "collect/pages"  # lives until collect is done
_SOURCE = f"{PAGES}/source.json"


def collect(build: Build, settings: BuildConfig, models: Models) -> list[list[SourceRecord]]:
    """The records of the source in its order, at most ``settings.limit``, in partitions of ``settings.partition_size``.

    Of records with the same id the first counts. Raises SurdError when the source fails or holds nothing; the pages
    got by then stay on disk, and the next call asks only for those that follow.
    """
    if settings.limit == 0:
        return []
    source = open_source(settings)
    _drop_pages_of_another(source, build)
    records: dict[str, SourceRecord] = {}
    repeated = 0
    try:
        with source:
            for record in _records(build, source):
                repeated += record.source_id in records
                records.setdefault(record.source_id, record)
                if len(records) == settings.limit:
                    break
    except SurdError as error:
        kept = f"; the {len(records)} records so far are kept, and running again continues" if records else ""
        raise SurdError(f"{error}{kept}") from error
    if not records:
        raise SurdError(f"config field 'source' is {settings.source!r} and gave no records; give one that holds images")
    if repeated:
        log.warning("%s gave %d records more than once; each counts once, where it came first", source.name, repeated)
    build.remove(PAGES)
    rows, size = [*records.values()], settings.partition_size
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _records(build: Build, source: Source) -> Iterator[SourceRecord]:
    """The source's records to its last page: of pages on disk first, then of those it is asked for, saving each."""
    asked: set[str | None] = set()
    cursor: str | None = None
    seen = 0
    for number in count():
        asked.add(cursor)
        page = _saved(build, number)
        if page is None:
            page = source.page(cursor)
            rows = [record.model_dump(mode="json") for record in page.records]
            build.write_json(_page_file(number), {"records": rows, "next_cursor": page.next_cursor})
        yield from page.records
        seen += len(page.records)
        log.info("%s: page %d, %d records", source.name, number + 1, seen)
        cursor = page.next_cursor
        if cursor is None:
            return
        if cursor in asked:
            log.warning(
                "%s gave the cursor %r twice, so its pages go in a circle; collecting ends here", source.name, cursor
            )
            return


def _saved(build: Build, number: int) -> Page | None:
    """A page that an earlier call got, or None."""
    if not build.exists(_page_file(number)):
        return None
    try:
        document = foreign_json.parse(build.read_bytes(_page_file(number)))
        return Page([SourceRecord.model_validate(row) for row in document["records"]], document["next_cursor"])
    except (ValueError, KeyError, TypeError, ValidationError):  # of another version
        return None


def _drop_pages_of_another(source: Source, build: Build) -> None:
    """Remove the pages of an unfinished collect unless they are this very source's."""
    mine = {"source": source.name, "fingerprint": source.fingerprint()}
    if build.exists(_SOURCE) and foreign_json.parse(build.read_bytes(_SOURCE)) == mine:
        return
    build.remove(PAGES)
    build.write_json(_SOURCE, mine)


def _page_file(number: int) -> str:
    return f"{PAGES}/{number:06d}.json"
