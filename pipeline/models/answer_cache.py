"""Cache of the answers of servers, by request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from surd.schemas import SurdError
from surd.schemas.paths import absolute

T = TypeVar("T")
_LINE = re.compile(r"([0-9a-f]{64}) (.+)")


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
    """An open cache: a connection in a thread of its own, so that a disk that syncs holds up no request.

    A document goes to the log beside the file first, which the system has at once and no kill takes back; then, with
    all that came meanwhile, to the file. A commit took 1 ms on an idle disk and 27 on a busy one, a line 0.02. SQLite's
    own log, WAL, is not for files that several machines share, as home folders often are. Who opens the
    cache next takes over what is in the log, and empties it: what another process is writing is in its batch too.
    """

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self._path, self._thread = path, thread
        self._connection: sqlite3.Connection | None = None
        self._log: int | None = None
        self._waiting: list[tuple[str, str]] = []
        self._commit: asyncio.Task[None] | None = None

    async def read(self, keys: Sequence[str]) -> dict[str, str]:
        """The cached documents of ``keys``."""
        return await self._run(partial(_read, keys))

    def write(self, key: str, document: str) -> None:
        """Keep a document, JSON in one line of ASCII: after this no kill loses it."""
        if self._commit and self._commit.done():
            self._commit.result()  # raises what went wrong with it
        with _explained(self._path):
            if self._log is None:
                self._log = os.open(_log_of(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._log, f"{key} {document}\n".encode("ascii"))
        self._waiting.append((key, document))
        if self._commit is None or self._commit.done():
            self._commit = asyncio.create_task(self._write_waiting())

    async def close(self) -> None:
        try:
            if self._commit:
                await self._commit
        finally:
            if self._log is not None:
                os.close(self._log)
            if self._connection:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._run(partial(_insert, batch))
        if self._log is not None:
            with _explained(self._path):
                os.ftruncate(self._log, 0)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _explained(self._path):
            if self._connection is None:
                self._connection = _connect(self._path)
            with self._connection as table:
                return work(table)


def _connect(path: Path) -> sqlite3.Connection:
    """Opens the file, and puts into it what a killed process left in the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
    log = _log_of(path)
    if log.exists() and log.stat().st_size:
        lines = log.read_text("ascii", "replace").splitlines()
        with connection as table:
            _insert([(match[1], match[2]) for line in lines if (match := _LINE.fullmatch(line))], table)
        os.truncate(log, 0)
    return connection


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _insert(rows: Sequence[tuple[str, str]], table: sqlite3.Connection) -> None:
    table.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)


def _read(keys: Sequence[str], table: sqlite3.Connection) -> dict[str, str]:
    # In one statement: a thread beside a busy loop waits up to 5 ms for the interpreter after every call of SQLite.
    places = ", ".join("?" * len(keys))
    rows = table.execute(f"SELECT key, reply FROM answers WHERE key IN ({places})", keys).fetchall()
    return {key: reply for key, reply in rows if isinstance(reply, str)}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says in one sentence why the file of the cache cannot be used."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SurdError(
            f"models.server.cache {str(path)!r} cannot be used ({error}); name a file that you may write,"
            " or remove it if it is damaged"
        ) from None
