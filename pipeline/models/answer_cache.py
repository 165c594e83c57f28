"""Cache of the answers of LLM servers, by request."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from platformdirs import user_cache_path

from surd.pipeline.models.chat import Reply, reply_of
from surd.schemas import SurdError
from surd.schemas.paths import absolute


class AnswerCache:
    """Replies as JSON in one SQLite file, by the hash of URL and payload; several processes may share it.

    ``path``: the file; None: ``llm-answers.sqlite`` in the user's cache folder. The API key is not part of a payload.
    """

    def __init__(self, path: str | None) -> None:
        self._path = absolute(path) if path else user_cache_path("surd") / "llm-answers.sqlite"

    @staticmethod
    def key(url: str, payload: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps([url, payload], sort_keys=True).encode()).hexdigest()

    def read(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The cached replies of ``keys``."""
        replies = {}
        with self._open() as table:
            for key in dict.fromkeys(keys):
                row = table.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
                if row and (reply := _reply(row[0])):
                    replies[key] = reply
        return replies

    def write(self, key: str, reply: Reply) -> None:
        with self._open() as table:
            document = json.dumps(dataclasses.asdict(reply), ensure_ascii=True)
            table.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, document))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one use: they must not cross threads. Commits if the block raises nothing."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise SurdError(
                f"models.server.cache {str(self._path)!r} cannot be used ({error}); name a file that you may write,"
                " or remove it if it is damaged"
            ) from None


def _reply(document: str) -> Reply | None:
    """A kept reply, None where it is damaged: then the prompt is asked again."""
    try:
        kept = Reply(**json.loads(document))
    except (ValueError, TypeError, RecursionError):
        return None
    return reply_of(kept.text, cut=bool(kept.cut)) if isinstance(kept.text, str) else None
