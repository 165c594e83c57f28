"""Work on streams of items: in batches, ahead of the reader in threads, or many at once on an event loop."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def prefetch(function: Callable[[S], T], items: Iterable[S], window: int) -> Iterator[T]:
    """``map`` on every core, in order, up to ``window`` results ahead of the consumer.

    While a model works on one batch the next one is decoded; Pillow lets other threads run meanwhile.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pending: deque[Future[T]] = deque()
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Items in tuples of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch


async def ordered_gather(work: Callable[[S], Awaitable[T]], items: Iterable[S], window: int) -> AsyncGenerator[T, None]:
    """``work`` on every item, up to ``window`` at once, results in the order of the items.

    An exception of any item ends all of it at once: it is a full disk or a bug, and not to be waited for.
    """
    pending: deque[asyncio.Future[T]] = deque()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(task: asyncio.Future[T]) -> None:
        if not task.cancelled() and (error := task.exception()) and not failed.done():
            failed.set_exception(error)

    async def first() -> T:
        task = pending[0]
        if not task.done():
            await asyncio.wait((task, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            await failed
        pending.popleft()
        return task.result()

    try:
        for item in items:
            pending.append(asyncio.ensure_future(work(item)))
            pending[-1].add_done_callback(note)
            if len(pending) == window:
                yield await first()
        while pending:
            yield await first()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        failed.cancel()
