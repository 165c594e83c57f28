"""Turns downloads, as they arrive, into a file beside the partition, so that no image is ever downloaded twice.

``fetch/part-NNNNN.journal`` begins with a line that says for which records and settings it speaks; one with other words
is dropped, with the tar that belongs to it. Then come entries in the order of arrival: a JSON line, and for a download
its bytes behind that line. When the partition is done the bytes are in its tar, and the journal is rewritten to hold
the permanent refusals alone. The next run of the partition, after a kill or for the sake of transient failures, takes
from journal and tar what they hold and asks the network only for the rest. A half-written entry at the end, and bytes
that do not have their checksum, count as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pipeline.download import Download
from pipeline.refusal import Refused
from schemas import Pair, Reason, SourceRecord
from schemas.config import FetchConfig

VERSION = 1
#: Settings that change how fast bytes come, not which.
_PACE = {
    "concurrency", "per_host_concurrency", "per_host_rate", "retries", "connect_timeout", "first_byte_timeout",
    "timeout",
}  # fmt: skip


class Journal:
    """The journal of one partition at ``path``, and the ``tar`` of its last finished run. Use it in a with block."""

    def __init__(self, path: Path, tar: Path, records: Iterable[SourceRecord], settings: FetchConfig) -> None:
        self._path, self._tar = path, tar
        basis = [VERSION, settings.model_dump(mode="json", exclude=_PACE), [[r.key, r.url] for r in records]]
        self._header = json.dumps({"journal": hashlib.sha256(json.dumps(basis).encode()).hexdigest()}).encode() + b"\n"
        self._entries: dict[str, dict[str, Any]] = {}  # a download's has "offset", in journal or tar
        self._file: IO[bytes] | None = None
        self._tar_file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("r+b" if self._path.exists() else "w+b", buffering=0)
        if self._file.readline() != self._header:
            self._file.seek(0)
            self._file.truncate()
            self._tar.unlink(missing_ok=True)  # before the new header, which would vouch for it
            self._file.write(self._header)
        elif self._tar.exists():
            self._tar_file = self._tar.open("rb")
            self._read_tar(self._tar_file)
        self._read_entries(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._tar_file):
            if file:
                file.close()

    def outcome(self, key: str) -> Download | None:
        """The download of a record that an earlier run made, or None. Raises Refused when it was refused for good."""
        entry = self._entries.get(key)
        if entry is None or not entry.keys() & {"reason", "offset"}:
            return None
        if "reason" in entry:
            raise Refused(Reason(entry["reason"]), entry["detail"])
        file = self._tar_file if entry["in_tar"] else self._file
        assert file is not None, "a journal is used inside its with block"
        data = os.pread(file.fileno(), entry["size"], entry["offset"])
        sound = entry["in_tar"] or zlib.crc32(data) == entry["crc32"]
        return Download(data=data, opt_out=entry.get("opt_out")) if sound and len(data) == entry["size"] else None

    def keep(self, key: str, download: Download) -> None:
        """Note a download; it is in the file when this returns."""
        size, check = len(download.data), zlib.crc32(download.data)
        line = {"key": key, "size": size, "crc32": check, "opt_out": download.opt_out}
        self._append(json.dumps(line).encode() + b"\n" + download.data)

    def refuse(self, key: str, refused: Refused) -> None:
        """Note a refusal, unless it may pass."""
        if not refused.transient:
            self._append(_refusal(key, refused.reason, refused.detail))

    def finish(self, pairs: Iterable[Pair]) -> None:
        """Rewrite the journal once the bytes of what was kept are in the tar: what the tar cannot say, in row order."""
        temporary = self._path.with_suffix(".journal.tmp")
        with temporary.open("wb") as file:
            file.write(self._header)
            for pair in pairs:
                if pair.rejected_by == "fetch" and pair.reason and not pair.transient:
                    file.write(_refusal(pair.key, pair.reason, pair.detail or ""))
                elif pair.opt_out:
                    file.write(json.dumps({"key": pair.key, "opt_out": pair.opt_out}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def _append(self, entry: bytes) -> None:
        assert self._file is not None, "a journal is used inside its with block"
        self._file.seek(0, os.SEEK_END)
        rest = memoryview(entry)
        while rest:  # an unbuffered file may take less than all of it
            rest = rest[self._file.write(rest) :]

    def _read_tar(self, file: IO[bytes]) -> None:
        with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key = member.name.partition(".")[0]
                self._entries[key] = {"offset": member.offset_data, "size": member.size, "in_tar": True}

    def _read_entries(self, file: IO[bytes]) -> None:
        """Index the entries, and cut off one that was not written to its end."""
        size = os.fstat(file.fileno()).st_size
        position = len(self._header)
        with self._path.open("rb") as reader:
            while position < size:
                reader.seek(position)
                line = reader.readline()
                try:
                    entry = json.loads(line)
                    end = position + len(line) + entry.get("size", 0)
                    key = entry["key"]
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
                if not line.endswith(b"\n") or end > size:
                    break
                if "size" in entry:
                    entry |= {"offset": position + len(line), "in_tar": False}
                self._entries[key] = self._entries.get(key, {}) | entry if "size" not in entry else entry
                position = end
        file.truncate(position)


def _refusal(key: str, reason: Reason, detail: str) -> bytes:
    return json.dumps({"key": key, "reason": reason.value, "detail": detail}).encode() + b"\n"
