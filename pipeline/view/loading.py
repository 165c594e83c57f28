"""Reading a build's records while the server starts, and again when the build has grown."""

from __future__ import annotations

import threading

import duckdb

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import read_columns
from surd.pipeline.view.table import Records, load_records, signature_of
from surd.schemas import SurdError


class Loading:
    """The records of a build, read in a thread of their own and read again when the build has grown."""

    def __init__(self, build: Build, max_nsfw: float, beside: Build | None = None) -> None:
        self._build, self._max_nsfw, self._beside = build, max_nsfw, beside
        self._records: Records | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._load, daemon=True).start()

    @property
    def records(self) -> Records:
        """The records, once they are read. Raises what reading them raised."""
        self._ready.wait()
        if self._error is not None:
            raise self._error
        assert self._records is not None
        return self._records

    def grown(self) -> bool:
        """Whether the build's files are others than those that were read."""
        return signature_of(self._build) != self.records.signature

    def reload(self) -> None:
        """Read the build again; what is shown meanwhile stays."""
        with self._lock:
            if self.grown():
                self._records = self._read()  # requests that began before hold the old ones, which then go

    def close(self) -> None:
        """Free what was read; what is still being read ends with the process."""
        if self._records is not None:
            self._records.close()

    def _load(self) -> None:
        try:
            self._records = self._read()
        except BaseException as error:  # told to whoever asks for the records
            self._error = error
        finally:
            self._ready.set()

    def _read(self) -> Records:
        try:
            records = load_records(self._build, self._max_nsfw)
            if self._beside is not None:
                read_beside(records, self._beside)
            return records
        except duckdb.Error as error:
            raise SurdError(
                f"{self._build.root} cannot be read ({str(error).splitlines()[0]}); check it with surd verify"
            ) from None


def read_beside(records: Records, other: Build) -> None:
    """Fill the table ``beside`` with the verdicts and sentences of another build."""
    for part in range(other.part_count()):
        if not other.exists(part_file("select", part)) or not other.exists(part_file("correct", part)):
            continue
        verdicts = read_columns(other, "select", part, ["key", "status", "reason"])
        sentences = read_columns(other, "correct", part, ["key", "simple"])
        cursor = records.cursor()
        cursor.register("verdicts", verdicts)
        cursor.register("sentences", sentences)
        cursor.execute(
            "INSERT INTO beside SELECT key, status, reason, simple, false FROM verdicts LEFT JOIN sentences USING (key)"
        )
    records.database.execute(
        "UPDATE beside SET changed = true FROM record"
        " WHERE beside.key = record.key AND beside.simple IS DISTINCT FROM record.simple"
    )
