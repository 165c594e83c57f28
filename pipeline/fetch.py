"""fetch: turns source records into pairs: original bytes in a tar, verified, with the metadata they carry."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import tarfile
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pipeline import foreign_json
from pipeline.build import Build, add_member, part_journal, part_miniatures, part_tar
from pipeline.download import Download, Downloader
from pipeline.fetch_journal import Journal
from pipeline.inspect_image import inspect
from pipeline.models import Models
from pipeline.refusal import Refused
from pipeline.sources import AtAnAddress, Readable, Source, open_source
from pipeline.twins.look_alike import SIDE, Pixels
from schemas import BuildConfig, Pair, Reason, SourceRecord
from schemas.config import FetchConfig

log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A row and, where it was kept, its original bytes and its miniature."""

    pair: Pair
    data: bytes = b""
    miniature: Pixels | None = None


def fetch(build: Build, unit: int, settings: BuildConfig, models: Models) -> list[Pair]:
    """One partition's images: rows in the order of the records, bytes as ``{key}.{ext}`` in ``fetch/part-NNNNN.tar``.

    Downloads overlap and decoding uses every core, but bytes are written in row order as they come: at most
    2 x ``concurrency`` images are in memory. Every record that fails becomes a row with a reason. Beside the tar lie
    the miniatures that dedup compares, uint8 [rows, 32, 32, 3], black where a row was not kept, and the journal by
    which a partition that was killed, or had transient failures, goes on without downloading anything again.
    """
    records = build.read_rows("collect", unit, SourceRecord)
    with open_source(settings) as source, _journal(build, unit, records, source, settings.fetch) as journal:
        with (
            build.writing(part_tar("fetch", unit)) as file,
            tarfile.open(fileobj=file, mode="w|") as tar,  # type: ignore[call-overload]  # it only needs write()
        ):
            pairs, miniatures = asyncio.run(_fetch_all(records, source, settings.fetch, tar, journal))
        if journal:
            journal.finish(pairs)
    array = io.BytesIO()
    np.save(array, miniatures, allow_pickle=False)
    build.write_bytes(part_miniatures(unit), array.getvalue())
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
    except Refused:
        return False


async def _fetch_all(
    records: list[SourceRecord], source: Source, settings: FetchConfig, tar: tarfile.TarFile, journal: Journal | None
) -> tuple[list[Pair], Pixels]:
    pairs: list[Pair] = []
    miniatures = np.zeros((len(records), SIDE, SIDE, 3), np.uint8)
    own = source.own_address if isinstance(source, AtAnAddress) else None
    async with Downloader(settings, own) as downloader:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            one = partial(_fetch_one, source, settings, downloader, journal, threads)
            async with aclosing(_in_order(one, records, window=2 * settings.concurrency)) as results:
                async for fetched in results:
                    if fetched.miniature is not None:
                        miniatures[len(pairs)] = fetched.miniature
                    pairs.append(_store(tar, fetched))
                    if len(pairs) % 100 == 0:
                        log.info("fetched %d of %d", len(pairs), len(records))
    return pairs, miniatures


async def _fetch_one(
    source: Source,
    settings: FetchConfig,
    downloader: Downloader,
    journal: Journal | None,
    threads: Executor,
    record: SourceRecord,
) -> Fetched:
    """Get and inspect one record's image. A record rejected before passes as it is."""
    row = Pair(**record.verdict())
    if not row.kept:
        return Fetched(pair=row)
    in_thread = partial(asyncio.get_running_loop().run_in_executor, threads)
    try:
        place = _locate(source, record)
        if isinstance(place, str):
            download = await _download(downloader, journal, record.key, place)
        else:
            download = Download(data=await in_thread(_read_file, place, settings.max_bytes))
        found, small = await in_thread(inspect, download.data, settings)
    except Refused as refused:
        rejected = row.reject("fetch", refused.reason, foreign_json.text_of(refused.detail))
        return Fetched(pair=rejected.model_copy(update={"transient": refused.transient or None}))
    found |= _prompts(record, found) | {"opt_out": download.opt_out}
    return Fetched(pair=row.model_copy(update=found), data=download.data, miniature=small)


async def _download(downloader: Downloader, journal: Journal | None, key: str, url: str) -> Download:
    """The bytes that an earlier run got, or new ones, which are in the journal before anything is done with them."""
    if journal and (known := journal.outcome(key)):
        return known
    try:
        download = await downloader.get(url)
    except Refused as refused:
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
        raise Refused(Reason.UNREADABLE_FILE, str(error)) from None


def _read_file(path: Readable, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Refused(Reason.UNREADABLE_FILE, error.strerror or str(error)) from None
    if len(data) > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return data


async def _in_order(work: Callable[[S], Awaitable[T]], items: Iterable[S], window: int) -> AsyncGenerator[T, None]:
    """``work`` on every item, up to ``window`` at once, results in the order of the items."""
    pending: deque[asyncio.Future[T]] = deque()
    try:
        for item in items:
            pending.append(asyncio.ensure_future(work(item)))
            if len(pending) == window:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()


def _store(tar: tarfile.TarFile, fetched: Fetched) -> Pair:
    """Append the bytes of a kept pair; returns it with their offset in the tar."""
    pair = fetched.pair
    if not pair.kept:
        return pair
    add_member(tar, f"{pair.key}.{pair.ext}", fetched.data)
    padded = -(-len(fetched.data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return pair.model_copy(update={"offset": tar.offset - padded})
