"""Stage fetch: downloads the images of source records, inspects them, and stores their bytes in a tar."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from surd.pipeline import untrusted_json
from surd.pipeline.acquisition.inspect_image import ImageFacts, inspect, inspect_cheap
from surd.pipeline.acquisition.journal import Journal
from surd.pipeline.acquisition.progress import Reporter
from surd.pipeline.acquisition.reorder_buffer import NOTHING, ReorderBuffer, Spilled
from surd.pipeline.acquisition.stored_journal import StoredJournal
from surd.pipeline.acquisition.tombstones import Tombstones
from surd.pipeline.batching import ordered_gather
from surd.pipeline.build.folder import Build, part_journal, part_tar
from surd.pipeline.build.progress import progress_file
from surd.pipeline.models import Models
from surd.pipeline.net.downloader import Download, Downloader
from surd.pipeline.net.rate_limit import per_process
from surd.pipeline.net.urls import redact_text
from surd.pipeline.rejection import Rejected
from surd.pipeline.sources import Readable, Source, WebSource, open_source
from surd.schemas import BuildConfig, Pair, Reason, SourceRecord
from surd.schemas.config import FetchConfig
from surd.schemas.printable import printable
from surd.schemas.shard_format.tar import add_member, tar_writer

T = TypeVar("T")
AHEAD = 2000  # records in progress before the first of them is done: so one slow host does not hold up the others


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A row and, if it was kept, its bytes."""

    pair: Pair
    data: Spilled = NOTHING


def fetch(build: Build, unit: int, config: BuildConfig, models: Models) -> list[Pair]:
    """One partition's images: rows in the order of the records, bytes as ``{key}.{ext}`` in ``fetch/part-NNNNN.tar``.

    Downloads overlap, and files are inspected as far as that needs no pixels: those are for the stage decode. A host
    that is slow, or sets a pause, does not hold up the images of others: bytes are written in row order, and what
    arrives early waits in memory, at most 2 x ``concurrency`` images, or in a file. Every record that fails becomes a
    row with a reason. With the journal beside the tar a partition that was killed, or had transient failures, continues
    without downloading anything again.
    """
    records = build.read_rows("collect", unit, SourceRecord)
    with (
        open_source(config) as source,
        _journal(build, unit, records, source, config.fetch) as journal,
        progress_file(build, "fetch", unit) as told,
    ):
        with (
            build.writing(part_tar("fetch", unit)) as file,
            tar_writer(file) as tar,
        ):
            forgotten = Tombstones.read(build).pictures
            reporter = Reporter(told, len(records))
            fetcher = Fetcher(source, config.fetch, journal, build.local_path("fetch"), reporter, forgotten)
            pairs = asyncio.run(_fetch_all(records, fetcher, tar))
        if journal:
            journal.finish(pairs)
    return pairs


@contextmanager
def _journal(
    build: Build, unit: int, records: list[SourceRecord], source: Source, settings: FetchConfig
) -> Iterator[Journal | None]:
    """The partition's journal if there is something to download, else None."""
    if not any(_is_on_the_web(source, record) for record in records):
        yield None
        return
    path, tar = (build.local_path(name) for name in (part_journal(unit), part_tar("fetch", unit)))
    here = Journal(path, tar, records, settings) if path and tar else None
    with here or StoredJournal(build, unit, records, settings) as journal:
        yield journal


def _is_on_the_web(source: Source, record: SourceRecord) -> bool:
    try:
        return record.kept and isinstance(_locate(source, record), str)
    except Rejected:
        return False


async def _fetch_all(records: list[SourceRecord], fetcher: Fetcher, tar: tarfile.TarFile) -> list[Pair]:
    pairs: list[Pair] = []
    async with fetcher, aclosing(ordered_gather(fetcher.one, enumerate(records), AHEAD)) as results:
        async for fetched in results:
            pairs.append(_store(tar, fetched.pair, fetcher.buffer.pop_next(fetched.data)))
    return pairs


class Fetcher:
    """Downloads and inspects the images of one partition, many at a time. Use it in an async with block.

    ``forgotten``: sha256 of pictures that were removed from the build and are rejected wherever they come from.
    """

    def __init__(
        self, source: Source, settings: FetchConfig, journal: Journal | None, folder: Path | None, reporter: Reporter,
        forgotten: Set[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._source, self._settings, self._journal, self._reporter = source, settings, journal, reporter
        self._forgotten = forgotten
        self.buffer = ReorderBuffer(folder, in_memory=2 * per_process(settings.concurrency))
        cores = per_process(os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(cores)
        self._files = asyncio.Semaphore(2 * cores)

    async def __aenter__(self) -> Self:
        trusted_url = self._source.trusted_url if isinstance(self._source, WebSource) else None
        self._downloader = Downloader(self._settings, trusted_url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._downloader.aclose()
        self._threads.shutdown()
        self.buffer.close()

    async def one(self, numbered: tuple[int, SourceRecord]) -> Fetched:
        """Download, inspect and count one record's image. A record rejected by collect stays as it is."""
        number, record = numbered
        resumed = self._journal is not None and self._journal.has(record.key)
        fetched = await self._one(number, record)
        self._reporter.note(record.url, fetched.pair, resumed=resumed)
        return fetched

    async def _one(self, number: int, record: SourceRecord) -> Fetched:
        row = Pair(**record.verdict())
        if not row.kept:
            return Fetched(pair=row)
        try:
            location = _locate(self._source, record)
            if isinstance(location, str):
                download = await _download(self._downloader, self._journal, record.key, location, self._forgotten)
                with self._downloader.slots.buffer():
                    arguments = (download.data, self._settings, download.sha256)
                    inspected = inspect_cheap(*arguments)  # for little work a thread would cost more than the work
                    if inspected is None:
                        inspected = await self._in_thread(inspect, *arguments)
                    facts, data = inspected
                    spilled = self.buffer.put(number, data)
                opt_out = download.opt_out
            else:
                async with self._files:
                    facts, data = await self._in_thread(_inspect_file, location, self._settings)
                    spilled = self.buffer.put(number, data)
                opt_out = None
                _refuse_forgotten(self._forgotten, facts.sha256, facts.original_sha256)
        except Rejected as rejected:
            detail = printable(redact_text(untrusted_json.to_text(rejected.detail) or ""))
            pair = row.reject("fetch", rejected.reason, detail)
            return Fetched(pair=pair.model_copy(update={"transient": rejected.transient or None}))
        columns = _without_secrets(vars(facts)) | _prompts(record, facts) | {"opt_out": opt_out}
        # Without a prompt, the detail says why the file has none, or else why the source has none.
        columns["detail"] = None if columns["prompt"] else facts.detail or row.detail
        return Fetched(pair=row.model_copy(update=columns), data=spilled)

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _download(
    downloader: Downloader, journal: Journal | None, key: str, url: str, forgotten: Set[str]
) -> Download:
    """The bytes that an earlier run downloaded, or new ones, which are in the journal before they are used."""
    if journal and journal.has(key):
        async with downloader.slots.request():  # they take as much memory as new ones
            if recorded := journal.lookup(key):
                return recorded
    try:
        download = await downloader.get(url, journal.previous(key) if journal else None)
        _refuse_forgotten(forgotten, download.sha256)
    except Rejected as rejected:
        if journal:
            journal.record_rejection(key, rejected)
        raise
    if journal:
        journal.record(key, download)
    return download


def _refuse_forgotten(forgotten: Set[str], *sha256: str | None) -> None:
    """Raises Rejected for a picture that was removed from the build, under whatever address it comes again."""
    if not forgotten.isdisjoint(sha256):
        raise Rejected(Reason.FORGOTTEN, "the same bytes as a picture that was removed")


def _prompts(record: SourceRecord, facts: ImageFacts) -> dict[str, Any]:
    """Prompt and negative prompt, each from the source if it has one, else from the file."""
    from_source = bool(record.prompt and record.prompt.strip())
    prompt = record.prompt if from_source else facts.prompt and redact_text(facts.prompt)
    return {
        "prompt": prompt,
        "prompt_origin": ("source" if from_source else "file") if prompt else None,
        "negative_prompt": record.negative_prompt or (facts.negative_prompt and redact_text(facts.negative_prompt)),
    }


def _without_secrets(facts: dict[str, Any]) -> dict[str, Any]:
    """What a file says, without the passwords, keys and signatures of URLs in it."""
    return {name: redact_text(value) if isinstance(value, str) else value for name, value in facts.items()}


def _locate(source: Source, record: SourceRecord) -> str | Readable:
    try:
        return source.location(record.url or "")
    except (ValueError, OSError) as error:
        raise Rejected(Reason.UNREADABLE_FILE, str(error)) from None


def _inspect_file(path: Readable, settings: FetchConfig) -> tuple[ImageFacts, bytes]:
    return inspect(_read_file(path, settings.max_bytes), settings)


def _read_file(path: Readable, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Rejected(Reason.UNREADABLE_FILE, error.strerror or str(error)) from None
    if len(data) > max_bytes:
        raise Rejected(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return data


def _store(tar: tarfile.TarFile, pair: Pair, data: bytes) -> Pair:
    """Append the bytes of a kept pair; returns it with their offset in the tar."""
    if not pair.kept:
        return pair
    pair.offset = add_member(tar, f"{pair.key}.{pair.ext}", data)
    return pair
