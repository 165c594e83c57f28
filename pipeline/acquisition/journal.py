"""Journal of one partition's downloads, so that no image is ever downloaded twice.

``fetch/part-NNNNN.journal`` starts with a header line: hashes of the records and settings that it belongs to. Then come
entries in the order of arrival: a JSON line, and for a download its bytes behind that line. ``request`` in a line is a
hash of the record's URL. When the partition is done the bytes are in its tar, and the journal is rewritten to hold the
permanent rejections, and the validators that servers gave. The next run of the partition, after a kill or because of
transient failures, takes from journal and tar what they hold and requests only the rest. A half-written entry at the
end, and bytes with another checksum than recorded, count as missing.

Of a journal of the same settings and other records, as after some came or went, what it holds of the same URLs goes on
to count. One of other settings is kept as a backup, with the tar that belongs to it, until the run is done: everything
is requested anew, but the bodies it holds only if they have changed by their server's validators.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from surd.pipeline.build.atomic import atomic_file
from surd.pipeline.net.downloader import CachedBody, Download, Validators
from surd.pipeline.rejection import Rejected
from surd.schemas import Pair, Reason, SourceRecord
from surd.schemas.config import FetchConfig

VERSION = 2
#: Settings that change how fast bytes come, not which.
_PACE = {
    "processes", "concurrency", "per_host_concurrency", "per_host_rate", "retries", "connect_timeout",
    "first_byte_timeout", "timeout",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What a server said with a kept image: its validators, the checksum of its bytes, its opt-out."""

    request: str | None = None
    validators: Validators | None = None
    sha256: str | None = None
    opt_out: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored(Noted):
    """A downloaded body, and where its bytes are: in the tar, or in the journal."""

    offset: int
    size: int
    in_tar: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A permanent rejection. ``reason``: the value of a Reason."""

    request: str | None = None
    reason: str
    detail: str


Entry = Stored | Noted | Rejection


class Journal:
    """The journal of one partition at ``path``, and the ``tar`` of its last finished run. Use it in a with block."""

    def __init__(self, path: Path, tar: Path, records: Iterable[SourceRecord], settings: FetchConfig) -> None:
        self._path, self._tar = path, tar
        records = list(records)
        self._header = _line({"journal": journal_hash(records, settings), "settings": _settings_hash(settings)})
        self._requests = {record.key: _request_hash(record.url) for record in records}
        self._recoded = settings.image_size is not None  # then the tar does not hold what was downloaded
        self._opened: _JournalFile | None = None
        self._previous: _JournalFile | None = None

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._back_up_other()
        with self._path.open("ab") as file:
            if not file.tell():
                file.write(self._header)
        self._opened = _JournalFile(self._path, None if self._recoded else self._tar)
        self._opened.entries = {key: entry for key, entry in self._opened.entries.items() if self._is_own(key, entry)}
        if backup(self._path).exists():
            self._previous = _JournalFile(backup(self._path), backup(self._tar))
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._opened, self._previous):
            if file:
                file.close()

    def has(self, key: str) -> bool:
        """Whether there is an entry of a record."""
        return key in self._file.entries

    def lookup(self, key: str) -> Download | None:
        """The download of a record by this run or an earlier one, or None. Raises Rejected if it was rejected for
        good."""
        entry = self._file.entries.get(key)
        if isinstance(entry, Rejection):
            raise Rejected(Reason(entry.reason), entry.detail)
        if not isinstance(entry, Stored) or (data := self._file.data(entry)) is None:
            return None
        return Download(data=data, opt_out=entry.opt_out, validators=entry.validators)

    def previous(self, key: str) -> CachedBody | None:
        """The body from a run with other settings or records, if its server gave validators."""
        previous = self._previous
        entry = previous.entries.get(key) if previous else None
        if previous is None or not isinstance(entry, Stored) or entry.validators is None:
            return None
        return CachedBody(validators=entry.validators, read=lambda: previous.data(entry))

    def record(self, key: str, download: Download) -> None:
        """Add a download; it is in the file when this returns."""
        size, sha256 = len(download.data), download.sha256
        request = self._requests.get(key)
        line = {"key": key, "request": request, "size": size, "sha256": sha256, "opt_out": download.opt_out}
        offset = self._file.append(line | _fields(download.validators), download.data)
        self._file.entries[key] = Stored(
            offset=offset,
            size=size,
            in_tar=False,
            request=request,
            sha256=sha256,
            opt_out=download.opt_out,
            validators=download.validators,
        )

    def record_rejection(self, key: str, rejected: Rejected) -> None:
        """Add a rejection, unless it is transient."""
        if not rejected.transient:
            request = self._requests.get(key)
            self._file.append(_rejection(key, request, rejected.reason, rejected.detail))
            self._file.entries[key] = Rejection(request=request, reason=rejected.reason.value, detail=rejected.detail)

    def finish(self, pairs: Sequence[Pair]) -> None:
        """Rewrite the journal once the bytes of what was kept are in the tar: what the tar cannot hold, in row order.

        If the tar holds re-encoded images the journal keeps the originals as long as another run is to follow.
        """
        if self._keeps_bodies(pairs):
            return
        with atomic_file(self._path) as file:
            file.write(self._header)
            for pair in pairs:
                if pair.rejected_by == "fetch" and pair.reason and not pair.transient:
                    request = self._requests.get(pair.key)
                    file.write(_line(_rejection(pair.key, request, pair.reason, pair.detail or "")))
                elif pair.kept and not self._recoded:
                    file.write(_line({"key": pair.key, "request": self._requests.get(pair.key), **self._note(pair)}))
        for path in (self._path, self._tar):
            backup(path).unlink(missing_ok=True)

    def _keeps_bodies(self, pairs: Sequence[Pair]) -> bool:
        return self._recoded and any(pair.transient for pair in pairs)

    @property
    def _file(self) -> _JournalFile:
        assert self._opened is not None, "a journal is used inside its with block"
        return self._opened

    def _note(self, pair: Pair) -> dict[str, Any]:
        """The fields to keep of a kept pair whose bytes are in the tar."""
        entry = self._file.entries.get(pair.key)
        fields: dict[str, Any] = _fields(entry.validators) if isinstance(entry, Noted) else {}
        fields["sha256"] = pair.sha256  # else a tar damaged since would pass for what was downloaded
        return fields | ({"opt_out": pair.opt_out} if pair.opt_out else {})

    def _is_own(self, key: str, entry: Entry) -> bool:
        """Whether an entry is of a record's present URL. A journal of an older version does not say: it counts whole,
        as it does only for the records that it was begun with."""
        return "settings" not in self._file.header or (
            entry.request is not None and entry.request == self._requests.get(key)
        )

    def _back_up_other(self) -> None:
        """Take over what a journal of other records says of these. Rename one of other settings, and its tar, which
        would pass for the new header's."""
        if not self._path.exists():
            self._tar.unlink(missing_ok=True)
            return
        with self._path.open("rb") as file:
            line = file.readline()
        header, own = _header(line), _header(self._header)
        if header.get("journal") == own["journal"]:
            return
        if "journal" in header and header.get("settings") == own["settings"]:
            drop_entries(
                self._path,
                lambda entry: entry.get("request") != self._requests.get(entry["key"]),
                {header["journal"]: own["journal"]},
            )
            return
        for path in (self._tar, self._path):
            if path.exists() and line.endswith(b"\n"):
                path.replace(backup(path))
            else:
                path.unlink(missing_ok=True)
                backup(path).unlink(missing_ok=True)

    def _belongs(self, line: bytes) -> bool:
        """Whether a journal with this header is of the same records, or of the same settings."""
        header, own = _header(line), _header(self._header)
        return any(header.get(name) == own[name] for name in own)


def journal_hash(records: Iterable[SourceRecord], settings: FetchConfig) -> str:
    """What a journal's header says of the records and settings that it belongs to."""
    return _hash([VERSION, _deciding(settings), [[r.key, r.url] for r in records]])


def _settings_hash(settings: FetchConfig) -> str:
    return _hash([VERSION, _deciding(settings)])


def _request_hash(url: str | None) -> str:
    return _hash(url)[:16]


def _deciding(settings: FetchConfig) -> dict[str, Any]:
    """The settings that decide which bytes come."""
    fields = settings.model_dump(mode="json", exclude=_PACE)
    if settings.max_aspect == FetchConfig.model_fields["max_aspect"].default:
        del fields["max_aspect"]  # else journals of versions without it would be requested anew
    return fields


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _header(line: bytes) -> dict[str, str]:
    """What the first line of a journal says; nothing if it was not written to its end."""
    try:
        return dict(json.loads(line)) if line.endswith(b"\n") else {}
    except (ValueError, TypeError):
        return {}


def journal_entries(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Fields of every whole entry of a journal, and the bytes behind its line."""
    with path.open("rb") as file:
        file.readline()
        for line in file:
            try:
                fields = json.loads(line)
                data = file.read(fields.get("size", 0))
                whole = len(data) == fields.get("size", 0) and "key" in fields
            except (ValueError, TypeError, AttributeError):
                return
            if not whole:
                return
            yield fields, data


def drop_entries(path: Path, dropped: Callable[[dict[str, Any]], bool], hashes: Mapping[str, str]) -> int:
    """Rewrite a journal without the entries that ``dropped`` names; returns how many went.

    The hash in its header is exchanged where it is among ``hashes``, so that it goes on to belong to its records.
    """
    with path.open("rb") as file:
        line = file.readline()
    header, count = _header(line), sum(dropped(fields) for fields, _ in journal_entries(path))
    if not count and header.get("journal") not in hashes:
        return 0
    with atomic_file(path) as out:
        is_exchanged = header.get("journal") in hashes
        out.write(_line(header | {"journal": hashes[header["journal"]]}) if is_exchanged else line)
        for fields, data in journal_entries(path):
            if not dropped(fields):
                out.write(_line(fields) + data)
    return count


class _JournalFile:
    """A journal file and the tar of its run, indexed: ``entries`` by key."""

    def __init__(self, journal: Path, tar: Path | None) -> None:
        self.entries: dict[str, Entry] = {}
        self._journal = journal.open("r+b", buffering=0)
        with journal.open("rb") as file:
            self.header = _header(file.readline())
        self._tar = tar.open("rb") if tar and tar.exists() else None
        if self._tar:
            self._index_tar(self._tar)
        self._index_journal(journal)

    def close(self) -> None:
        self._journal.close()
        if self._tar:
            self._tar.close()

    def data(self, entry: Stored) -> bytes | None:
        """The bytes of a download, or None if they are not those that were written."""
        file = self._tar if entry.in_tar else self._journal
        assert file is not None, "what is in a tar was read from one"
        data = os.pread(file.fileno(), entry.size, entry.offset)
        is_whole = len(data) == entry.size and entry.sha256 in (None, hashlib.sha256(data).hexdigest())
        return data if is_whole else None

    def append(self, fields: dict[str, Any], data: bytes = b"") -> int:
        """Write a line and the bytes behind it; returns their offset."""
        line = _line(fields)
        start = self._journal.seek(0, os.SEEK_END)
        try:
            written = os.writev(self._journal.fileno(), (line, data))
            rest = memoryview(line + data)[written:] if written < len(line) + len(data) else b""
            while rest:  # an unbuffered file may take less than all of it
                rest = rest[self._journal.write(rest) :]
        except OSError:  # half an entry would hide those behind it
            self._journal.truncate(start)
            raise
        return start + len(line)

    def _index_tar(self, file: IO[bytes]) -> None:
        with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key = member.name.partition(".")[0]
                self.entries[key] = Stored(offset=member.offset_data, size=member.size, in_tar=True)

    def _index_journal(self, journal: Path) -> None:
        """Index the entries, and cut off one that was not written to its end."""
        size = os.fstat(self._journal.fileno()).st_size
        with journal.open("rb") as reader:
            position = len(reader.readline())
            while position < size:
                reader.seek(position)
                line = reader.readline()
                start = position + len(line)
                try:
                    fields = json.loads(line)
                    end = start + fields.get("size", 0)
                    key = fields["key"]
                    entry = _entry(fields, start, self.entries.get(key))
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
                if not line.endswith(b"\n") or end > size:
                    break
                self.entries[key] = entry
                position = end
        self._journal.truncate(position)


def _entry(fields: dict[str, Any], offset: int, known: Entry | None) -> Entry:
    """The entry of a journal line whose bytes are at ``offset``; a note completes ``known``, the entry of its image."""
    if "reason" in fields:
        return Rejection(request=fields.get("request"), reason=fields["reason"], detail=fields["detail"])
    etag, modified = fields.get("etag"), fields.get("last_modified")
    validators = Validators(url=fields["url"], etag=etag, last_modified=modified) if etag or modified else None
    note: dict[str, Any] = {"validators": validators}
    note |= {name: fields.get(name) for name in ("request", "sha256", "opt_out")}
    if "size" in fields:
        return Stored(offset=offset, size=fields["size"], in_tar=False, **note)
    return replace(known, **note) if isinstance(known, Stored) else Noted(**note)


def backup(path: Path) -> Path:
    """The place of a journal or tar that this run does not continue."""
    return path.with_name(f"{path.name}.before")


def _fields(validators: Validators | None) -> dict[str, Any]:
    return {name: value for name, value in vars(validators).items() if value} if validators else {}


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _rejection(key: str, request: str | None, reason: Reason, detail: str) -> dict[str, Any]:
    return {"key": key, "request": request, "reason": reason.value, "detail": detail}
