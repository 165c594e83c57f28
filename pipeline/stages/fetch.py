"""fetch: turns source records into pairs: original bytes in a tar, verified, with the metadata they carry."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from surd.pipeline import untrusted_json
from surd.pipeline.acquisition.inspect_image import inspect, inspect_cheap
from surd.pipeline.acquisition.journal import Journal
from surd.pipeline.acquisition.progress import Reporter, progress_file
from surd.pipeline.acquisition.reorder_buffer import NOTHING, ReorderBuffer, Spilled
from surd.pipeline.batching import ordered_gather
from surd.pipeline.build.folder import Build, part_journal, part_tar
from surd.pipeline.models import Models
from surd.pipeline.net.downloader import Download, Downloader
from surd.pipeline.net.rate_limit import per_process
from surd.pipeline.rejection import Rejected
from surd.pipeline.sources import AtAnAddress, Readable, Source, open_source
from surd.schemas import BuildConfig, Pair, Reason, SourceRecord
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.tar import add_member, tar_writer

T = TypeVar("T")
AHEAD = 2000  # records under way before the first of them is done: what a slow host holds up is not held up for long


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A row and, where it was kept, its bytes."""

    pair: Pair
    data: Spilled = NOTHING


def fetch(build: Build, unit: int, config: BuildConfig, models: Models) -> list[Pair]:
    """One partition's images: rows in the order of the records, bytes as ``{key}.{ext}`` in ``fetch/part-NNNNN.tar``.

    Downloads overlap, and what arrives is verified as far as that needs no pixels: those are for the stage decode. A
    host that is slow, or asks for a pause, holds up nobody else's images: bytes are written in row order, and what
    comes before its turn waits in memory, 2 x ``concurrency`` images at most, or in a file. Every record that fails
    becomes a row with a reason. Beside the tar lies the journal by which a partition that was killed, or had transient
    failures, goes on without downloading anything again.
    """
    records = build.read_rows("collect", unit, SourceRecord)
    with (
        open_source(config) as source,
        _journal(build, unit, records, source, config.fetch) as journal,
        closing(Reporter(progress_file(build, unit), len(records))) as reporter,
    ):
        with (
            build.writing(part_tar("fetch", unit)) as file,
            tar_writer(file) as tar,
        ):
            fetcher = Fetcher(source, config.fetch, journal, build.local_path("fetch"), reporter)
            pairs = asyncio.run(_fetch_all(records, fetcher, tar))
        if journal:
            journal.finish(pairs)
    return pairs


@contextmanager
def _journal(
    build: Build, unit: int, records: list[SourceRecord], source: Source, settings: FetchConfig
) -> Iterator[Journal | None]:
    """The partition's journal where there is something to download and the build is on this machine, else None."""
    path, tar = (build.local_path(name) for name in (part_journal(unit), part_tar("fetch", unit)))
    if path is None or tar is None or not any(_is_on_the_web(source, record) for record in records):
        yield None
        return
    with Journal(path, tar, records, settings) as journal:
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
            pairs.append(_store(tar, fetched.pair, fetcher.shelf.take(fetched.data)))
    return pairs


class Fetcher:
    """Gets and inspects the images of one partition, many at a time. Use it in an async with block."""

    def __init__(
        self, source: Source, settings: FetchConfig, journal: Journal | None, folder: Path | None, reporter: Reporter
    ) -> None:
        self._source, self._settings, self._journal, self._reporter = source, settings, journal, reporter
        self.shelf = ReorderBuffer(folder, room=2 * per_process(settings.concurrency))
        cores = per_process(os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(cores)
        self._files = asyncio.Semaphore(2 * cores)

    async def __aenter__(self) -> Self:
        own = self._source.own_address if isinstance(self._source, AtAnAddress) else None
        self._downloader = Downloader(self._settings, own)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._downloader.aclose()
        self._threads.shutdown()
        self.shelf.close()

    async def one(self, numbered: tuple[int, SourceRecord]) -> Fetched:
        """Get and inspect one record's image, and say so. A record rejected before passes as it is."""
        number, record = numbered
        resumed = self._journal is not None and self._journal.holds(record.key)
        fetched = await self._one(number, record)
        self._reporter.note(record.url, fetched.pair, resumed=resumed)
        return fetched

    async def _one(self, number: int, record: SourceRecord) -> Fetched:
        row = Pair(**record.verdict())
        if not row.kept:
            return Fetched(pair=row)
        try:
            place = _locate(self._source, record)
            if isinstance(place, str):
                download = await _download(self._downloader, self._journal, record.key, place)
                with self._downloader.slots.in_hand():
                    given = (download.data, self._settings, download.sha256)
                    inspected = inspect_cheap(*given)  # for little work a thread would cost more than the work
                    if inspected is None:
                        inspected = await self._in_thread(inspect, *given)
                    found, kept = inspected
                    laid = self.shelf.lay(number, kept)
                found["opt_out"] = download.opt_out
            else:
                async with self._files:
                    found, kept = await self._in_thread(_inspect_file, place, self._settings)
                    laid = self.shelf.lay(number, kept)
        except Rejected as refused:
            rejected = row.reject("fetch", refused.reason, untrusted_json.to_text(refused.detail))
            return Fetched(pair=rejected.model_copy(update={"transient": refused.transient or None}))
        return Fetched(pair=row.model_copy(update=found | _prompts(record, found)), data=laid)

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _download(downloader: Downloader, journal: Journal | None, key: str, url: str) -> Download:
    """The bytes that an earlier run got, or new ones, which are in the journal before anything is done with them."""
    if journal and journal.holds(key):
        async with downloader.slots.request():  # they take as much memory as new ones
            if known := journal.outcome(key):
                return known
    try:
        download = await downloader.get(url, journal.known(key) if journal else None)
    except Rejected as refused:
        if journal:
            journal.refuse(key, refused)
        raise
    if journal:
        journal.keep(key, download)
    return download


def _prompts(record: SourceRecord, found: dict[str, Any]) -> dict[str, Any]:
    """Prompt and negative prompt: of each the source's word where it says one, else the file's."""
    stated = bool(record.prompt and record.prompt.strip())
    prompt = record.prompt if stated else found["prompt"]
    return {
        "prompt": prompt,
        "prompt_origin": ("source" if stated else "file") if prompt else None,
        "negative_prompt": record.negative_prompt or found["negative_prompt"],
    }


def _locate(source: Source, record: SourceRecord) -> str | Readable:
    try:
        return source.location(record.url or "")
    except (ValueError, OSError) as error:
        raise Rejected(Reason.UNREADABLE_FILE, str(error)) from None


def _inspect_file(path: Readable, settings: FetchConfig) -> tuple[dict[str, Any], bytes]:
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
