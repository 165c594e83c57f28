"""Cache of the answers of servers, by request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from surd.schemas import SurdError
from surd.schemas.paths import absolute

T = TypeVar("T")


class AnswerCache:
    """Answers as JSON in one SQLite file, by the hash of URL and payload; several processes may share it.

    ``path``: the file; None: ``llm-answers.sqlite`` in the user's cache folder. The API key is not part of a payload,
    and of a picture only the hash is.
    """

    def __init__(self, path: str | None) -> None:
        self._path = absolute(path) if path else user_cache_path("surd") / "llm-answers.sqlite"

    @staticmethod
    def key(url: str, payload: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps([url, payload], sort_keys=True).encode()).hexdigest()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenAnswers]:
        """The answers, for the requests of one event loop. Raises SurdError if the file cannot be used, then or later.

        What was given to ``write`` is in the file when the block ends, whatever ends it.
        """
        with ThreadPoolExecutor(1, "answers") as thread:
            answers = OpenAnswers(self._path, thread)
            try:
                yield answers
            finally:
                await answers.close()


class OpenAnswers:
    """An open cache: one connection in a thread of its own, so that a disk that syncs holds up no other request."""

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self._path, self._thread = path, thread
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[tuple[str, str]] = []
        self._commit: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def read(self, keys: Sequence[str]) -> dict[str, str]:
        """The cached documents of ``keys``."""
        return await self._run(lambda table: dict(_rows(table, keys)))

    async def write(self, key: str, document: str) -> None:
        """Keep a document; it is in the file when this returns. What comes while one commit runs shares the next."""
        self._waiting.append((key, document))
        if self._commit is None:
            self._commit = asyncio.create_task(self._write_waiting())
        await asyncio.shield(self._commit)

    async def close(self) -> None:
        try:
            if self._commit:
                await self._commit
        finally:
            if self._connection:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)

    async def _write_waiting(self) -> None:
        async with self._turn:
            batch, self._waiting, self._commit = self._waiting, [], None
            await self._run(lambda table: table.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", batch))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with explained(self._path):
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=30)
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
                )
            with self._connection as table:
                return work(table)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says in one sentence why the file of the cache cannot be used."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SurdError(
            f"models.server.cache {str(path)!r} cannot be used ({error}); name a file that you may write,"
            " or remove it if it is damaged"
        ) from None


def _rows(table: sqlite3.Connection, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for key in dict.fromkeys(keys):
        row = table.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        if row and isinstance(row[0], str):
            yield key, row[0]
