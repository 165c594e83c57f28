"""Turns downloads, as they arrive, into a file beside the partition, so that no image is ever downloaded twice.

``fetch/part-NNNNN.journal`` begins with a line that says for which records and settings it speaks. Then come entries in
the order of arrival: a JSON line, and for a download its bytes behind that line. When the partition is done the bytes
are in its tar, and the journal is rewritten to hold the permanent refusals, and what versions servers said to give. The
next run of the partition, after a kill or for the sake of transient failures, takes from journal and tar what they hold
and asks the network only for the rest. A half-written entry at the end, and bytes that do not have their checksum,
count as not there.

A journal with another first line is put aside with the tar that belongs to it until the run is done: everything is
asked for anew, but of what it holds only where the server says that it has another version by now.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from surd.pipeline.net.downloader import Download, Known, Version
from surd.pipeline.rejection import Rejected
from surd.schemas import Pair, Reason, SourceRecord
from surd.schemas.config import FetchConfig

VERSION = 2
_STATED = tuple(Version.__dataclass_fields__)  # of which an entry has those that the server stated
#: Settings that change how fast bytes come, not which.
_PACE = {
    "processes", "concurrency", "per_host_concurrency", "per_host_rate", "retries", "connect_timeout",
    "first_byte_timeout", "timeout",
}  # fmt: skip


class Journal:
    """The journal of one partition at ``path``, and the ``tar`` of its last finished run. Use it in a with block."""

    def __init__(self, path: Path, tar: Path, records: Iterable[SourceRecord], settings: FetchConfig) -> None:
        self._path, self._tar = path, tar
        basis = [VERSION, settings.model_dump(mode="json", exclude=_PACE), [[r.key, r.url] for r in records]]
        self._header = json.dumps({"journal": hashlib.sha256(json.dumps(basis).encode()).hexdigest()}).encode() + b"\n"
        self._recoded = settings.image_size is not None  # then the tar does not hold what was downloaded
        self._held: _Held | None = None
        self._before: _Held | None = None

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._make_room()
        with self._path.open("ab") as file:
            if not file.tell():
                file.write(self._header)
        self._held = _Held(self._path, None if self._recoded else self._tar)
        if _aside(self._path).exists():
            self._before = _Held(_aside(self._path), _aside(self._tar))
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self._held, self._before):
            if held:
                held.close()

    def holds(self, key: str) -> bool:
        """Whether there may be an outcome of a record."""
        return key in self._mine.entries

    def outcome(self, key: str) -> Download | None:
        """The download of a record that this run or an earlier one made, or None. Raises Rejected when it was refused
        for good."""
        entry = self._mine.entries.get(key, {})
        if "reason" in entry:
            raise Rejected(Reason(entry["reason"]), entry["detail"])
        data = self._mine.data(entry) if "offset" in entry else None
        return None if data is None else Download(data=data, opt_out=entry.get("opt_out"), version=_version(entry))

    def known(self, key: str) -> Known | None:
        """What a run with other settings or records got, where its server named the version."""
        before = self._before
        entry = before.entries.get(key, {}) if before else {}
        version = _version(entry)
        if before is None or version is None or "offset" not in entry:
            return None
        return Known(version=version, read=lambda: before.data(entry))

    def keep(self, key: str, download: Download) -> None:
        """Note a download; it is in the file when this returns."""
        told = {"opt_out": download.opt_out, **_stated(download.version)}
        entry = {"key": key, "size": len(download.data), "sha256": download.sha256, **told}
        self._mine.append(entry, download.data)

    def refuse(self, key: str, refused: Rejected) -> None:
        """Note a refusal, unless it may pass."""
        if not refused.transient:
            self._mine.append(_refusal(key, refused.reason, refused.detail))

    def finish(self, pairs: Sequence[Pair]) -> None:
        """Rewrite the journal once the bytes of what was kept are in the tar: what the tar cannot say, in row order.

        Where the tar holds re-encoded images the journal keeps the originals as long as a run is to follow.
        """
        if self._recoded and any(pair.transient for pair in pairs):
            return
        temporary = self._path.with_suffix(".journal.tmp")
        with temporary.open("wb") as file:
            file.write(self._header)
            for pair in pairs:
                if pair.rejected_by == "fetch" and pair.reason and not pair.transient:
                    file.write(_line(_refusal(pair.key, pair.reason, pair.detail or "")))
                elif pair.kept and not self._recoded and (note := self._note(pair)):
                    file.write(_line({"key": pair.key, **note}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        for path in (self._path, self._tar):
            _aside(path).unlink(missing_ok=True)

    @property
    def _mine(self) -> _Held:
        assert self._held is not None, "a journal is used inside its with block"
        return self._held

    def _note(self, pair: Pair) -> dict[str, Any]:
        """What is to be remembered of a kept pair whose bytes are in the tar."""
        entry = self._mine.entries.get(pair.key, {})
        stated = {name: entry[name] for name in _STATED if entry.get(name)}
        if stated:
            stated["sha256"] = pair.sha256
        return stated | ({"opt_out": pair.opt_out} if pair.opt_out else {})

    def _make_room(self) -> None:
        """Put a journal of other records or settings aside, and its tar, which a new header would vouch for."""
        if not self._path.exists():
            self._tar.unlink(missing_ok=True)
            return
        with self._path.open("rb") as file:
            header = file.readline()
        if header == self._header:
            return
        for path in (self._tar, self._path):
            if path.exists() and header.endswith(b"\n"):
                path.replace(_aside(path))
            else:
                path.unlink(missing_ok=True)
                _aside(path).unlink(missing_ok=True)


class _Held:
    """What a journal and the tar of its run hold: ``entries`` by key; a download's has an offset in one of them."""

    def __init__(self, journal: Path, tar: Path | None) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self._journal = journal.open("r+b", buffering=0)
        self._tar = tar.open("rb") if tar and tar.exists() else None
        if self._tar:
            self._read_tar(self._tar)
        self._read_entries(journal)

    def close(self) -> None:
        self._journal.close()
        if self._tar:
            self._tar.close()

    def data(self, entry: dict[str, Any]) -> bytes | None:
        """The bytes of a download, or None where they are not what was written."""
        file = self._tar if entry["in_tar"] else self._journal
        assert file is not None, "what is in a tar was read from one"
        data = os.pread(file.fileno(), entry["size"], entry["offset"])
        known = entry.get("sha256")
        return data if len(data) == entry["size"] and known in (None, hashlib.sha256(data).hexdigest()) else None

    def append(self, entry: dict[str, Any], data: bytes = b"") -> None:
        line = _line(entry)
        start = self._journal.seek(0, os.SEEK_END)
        try:
            written = os.writev(self._journal.fileno(), (line, data))
            rest = memoryview(line + data)[written:] if written < len(line) + len(data) else b""
            while rest:  # an unbuffered file may take less than all of it
                rest = rest[self._journal.write(rest) :]
        except OSError:  # half an entry would hide those behind it
            self._journal.truncate(start)
            raise
        if "size" in entry:
            entry |= {"offset": start + len(line), "in_tar": False}
        self.entries[entry["key"]] = entry

    def _read_tar(self, file: IO[bytes]) -> None:
        with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key = member.name.partition(".")[0]
                self.entries[key] = {"offset": member.offset_data, "size": member.size, "in_tar": True}

    def _read_entries(self, journal: Path) -> None:
        """Index the entries, and cut off one that was not written to its end."""
        size = os.fstat(self._journal.fileno()).st_size
        with journal.open("rb") as reader:
            position = len(reader.readline())
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
                else:
                    entry = self.entries.get(key, {}) | entry
                self.entries[key] = entry
                position = end
        self._journal.truncate(position)


def _aside(path: Path) -> Path:
    """Where a journal or tar lies that this run does not go on with."""
    return path.with_name(f"{path.name}.before")


def _stated(version: Version | None) -> dict[str, Any]:
    return {name: value for name, value in vars(version).items() if value} if version else {}


def _version(entry: dict[str, Any]) -> Version | None:
    if not entry.get("etag") and not entry.get("last_modified"):
        return None
    return Version(url=entry["url"], etag=entry.get("etag"), last_modified=entry.get("last_modified"))


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _refusal(key: str, reason: Reason, detail: str) -> dict[str, Any]:
    return {"key": key, "reason": reason.value, "detail": detail}
