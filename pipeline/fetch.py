"""fetch: turns source records into pairs: original bytes in a tar, verified, with the metadata they carry."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import os
import re
import tarfile
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import stamina
from PIL import Image

from pipeline import foreign_json
from pipeline.build import Build, add_member, part_miniatures, part_tar
from pipeline.metadata import read_metadata
from pipeline.models import Models
from pipeline.pixels import to_rgb
from pipeline.sources import Source, open_source
from pipeline.twins.look_alike import SIDE, Pixels, miniature, perceptual_hash
from pipeline.web import client_settings, describe, retry_wait
from schemas import BuildConfig, Pair, Reason, SourceRecord
from schemas.config import FetchConfig

log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


class Refused(Exception):
    """An image that will not become a pair, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


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
    the miniatures that dedup compares, uint8 [rows, 32, 32, 3], black where a row was not kept.
    """
    records = build.read_rows("collect", unit, SourceRecord)
    with (
        open_source(settings) as source,
        build.writing(part_tar("fetch", unit)) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,  # type: ignore[call-overload]  # it only needs write()
    ):
        pairs, miniatures = asyncio.run(_fetch_all(records, source, settings.fetch, tar))
    array = io.BytesIO()
    np.save(array, miniatures, allow_pickle=False)
    build.write_bytes(part_miniatures(unit), array.getvalue())
    return pairs


def inspect(data: bytes, settings: FetchConfig) -> tuple[dict[str, Any], Pixels]:
    """What the bytes are, as columns of a pair: sniffed, bounded by the header, metadata read, then fully decoded; and
    the picture in miniature.

    Of an animation the first frame counts. Width and height are those of the upright picture. Raises Refused.
    """
    ext = sniff(data)
    try:
        with Image.open(io.BytesIO(data), formats=(_FORMATS[ext],)) as header:
            width, height = header.size
        if width * height > settings.max_pixels:
            raise Refused(Reason.TOO_LARGE, f"{width}x{height} pixels, more than max_pixels {settings.max_pixels}")
        metadata = read_metadata(data)
        picture = to_rgb(data)
        small = miniature(picture)
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(Reason.TOO_LARGE, str(error)) from None
    except Exception as error:  # Pillow on damaged bytes raises all sorts: OSError, SyntaxError, struct.error ...
        detail = re.sub(r" ?<_io\.[^>]*>", "", describe(error))  # an address in memory differs from run to run
        raise Refused(Reason.BROKEN_IMAGE, detail) from None
    columns = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "ext": ext,
        "size": len(data),
        "width": picture.width,
        "height": picture.height,
        "phash": perceptual_hash(small),
        "prompt": metadata and metadata.prompt,
        "negative_prompt": metadata and metadata.negative_prompt,
        "tool": metadata and metadata.tool,
        "params": foreign_json.dump(metadata.params) if metadata and metadata.params else None,
    }
    return columns, small


def sniff(data: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by the first bytes. Raises Refused on anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    start = data[:64].lstrip().lower()
    what = "HTML" if start.startswith((b"<!doctype", b"<html")) else "nothing" if not data else repr(data[:16])
    raise Refused(Reason.NOT_AN_IMAGE, f"the bytes begin with {what}" if data else "the file is empty")


async def _fetch_all(
    records: list[SourceRecord], source: Source, settings: FetchConfig, tar: tarfile.TarFile
) -> tuple[list[Pair], Pixels]:
    pairs: list[Pair] = []
    miniatures = np.zeros((len(records), SIDE, SIDE, 3), np.uint8)
    slots = asyncio.Semaphore(settings.concurrency)
    async with httpx.AsyncClient(**client_settings(settings.timeout)) as client:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            one = partial(_fetch_one, source, settings, client, slots, threads)
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
    client: httpx.AsyncClient,
    slots: asyncio.Semaphore,
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
        if isinstance(place, Path):
            data = await in_thread(_read_file, place, settings.max_bytes)
        else:
            async with slots:
                data = await _download(client, place, settings)
        found, small = await in_thread(inspect, data, settings)
    except Refused as refused:
        return Fetched(pair=row.reject("fetch", refused.reason, foreign_json.text_of(refused.detail)))
    found |= _prompts(record, found)
    return Fetched(pair=row.model_copy(update=found), data=data, miniature=small)


def _prompts(record: SourceRecord, found: dict[str, Any]) -> dict[str, Any]:
    """Prompt and negative prompt: of each the source's word where it says one, else the file's."""
    stated = bool(record.prompt and record.prompt.strip())
    prompt = record.prompt if stated else found["prompt"]
    return {
        "prompt": prompt,
        "prompt_origin": ("source" if stated else "file") if prompt else None,
        "negative_prompt": record.negative_prompt or found["negative_prompt"],
    }


def _locate(source: Source, record: SourceRecord) -> str | Path:
    try:
        return source.location(record.url or "")
    except (ValueError, OSError) as error:
        raise Refused(Reason.UNREADABLE_FILE, str(error)) from None


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Refused(Reason.UNREADABLE_FILE, error.strerror or str(error)) from None
    if len(data) > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
    return data


async def _download(client: httpx.AsyncClient, url: str, settings: FetchConfig) -> bytes:
    """The body of an http(s) URL, with retries; ``settings.timeout`` is for each try as a whole."""
    try:
        async for attempt in stamina.retry_context(
            on=retry_wait, attempts=settings.retries + 1, timeout=None, wait_initial=0.5, wait_max=20
        ):
            with attempt:
                async with asyncio.timeout(settings.timeout):
                    return await _get(client, url, settings.max_bytes)
    except httpx.HTTPStatusError as error:
        raise Refused(Reason.HTTP_ERROR, describe(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise Refused(Reason.FETCH_FAILED, describe(error)) from None
    raise AssertionError("stamina either returns or raises")


async def _get(client: httpx.AsyncClient, url: str, max_bytes: int) -> bytes:
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        body = bytearray()
        too_large = Refused(Reason.TOO_LARGE, f"more than max_bytes {max_bytes}")
        if int(response.headers.get("Content-Length", 0)) > max_bytes:
            raise too_large
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
        return bytes(body)


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
