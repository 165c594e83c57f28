"""Lists of image URLs with prompts, in parquet, csv, tsv and jsonl: one record per row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import fsspec
from fsspec.implementations.local import LocalFileSystem

from surd.pipeline.net.log_redaction import redact_log
from surd.pipeline.net.urls import is_http, redact_secrets, redact_text, url_identity
from surd.pipeline.sources import RecordStream, new_record
from surd.pipeline.sources.column_mapping import ColumnMapping, guess_columns, url_fault, value_of
from surd.pipeline.sources.local_files import files_below, resolved
from surd.pipeline.sources.table_reader import DAMAGED, TableRow, kind_of, read_table, sampled
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError


class UrlList(RecordStream):
    """A list file, or a folder of them, local or at an fsspec URL. Records name it by its last part, so it may move.

    A record's id is its URL: of rows with the same URL the first counts. A row without one is rejected with a reason.
    """

    def __init__(self, path: str, config: BuildConfig) -> None:
        redact_log("fsspec.http")
        self._shown = redact_secrets(path)
        self.name = f"urls:{to_text(self._shown.partition('?')[0].rstrip('/').rpartition('/')[2])}"
        self._config = config
        try:
            self._fs: fsspec.AbstractFileSystem
            self._path: str
            self._fs, self._path = fsspec.core.url_to_fs(path) if "://" in path else _local(path)
        except (ValueError, ImportError) as error:
            raise self._unusable(f"cannot be opened ({to_text(str(error))})") from None

    def fingerprint(self) -> str:
        """Names, sizes and times of the files, and which columns are read."""
        digest = hashlib.sha256(self._config.urls.model_dump_json().encode())
        for file in self._files():
            info = self._fs.info(file)
            time = next((info[name] for name in ("mtime", "ETag", "etag", "LastModified") if name in info), "")
            digest.update(f"{file.rpartition('/')[2]}\0{info.get('size')}\0{time}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def records(self) -> Iterator[SourceRecord]:
        for file in self._files():
            name = to_text(file.rpartition("/")[2]) or ""
            number = 0
            try:
                with self._fs.open(file, "rb", compression="infer") as opened:
                    names, rows = read_table(opened, kind_of(file) or "")
                    sample, rows = sampled(rows)
                    where = f"the list {name!r}"
                    columns = guess_columns(names, self._config.urls, where, need_url=True, sample=sample)
                    for number, row in enumerate(rows, start=1):
                        yield self._record(f"{name}:{number}", row, columns)
            except DAMAGED as error:
                if not number:
                    raise self._unusable(f"cannot be read ({to_text(str(error))})") from error
                fault = f"{name}: damaged after row {number} ({to_text(str(error))})"
                yield new_record(self.name, f"{name}:{number + 1}").reject("collect", Reason.UNREADABLE_ROW, fault)
            except (
                OSError,
                ValueError,
                aiohttp.ClientError,
            ) as error:  # removed since it was listed, or a server that does not respond
                raise self._unusable(f"cannot be read ({to_text(str(error))})") from error

    def location(self, url: str) -> str:
        if not is_http(url):
            raise ValueError(f"not an http(s) URL: {redact_secrets(url)}")
        return url

    def _files(self) -> list[str]:
        try:
            if self._fs.isdir(self._path):
                self._check_open()
                files = sorted(file for file in self._fs.find(self._path) if kind_of(file))
            elif self._fs.exists(self._path):
                files = [self._path]
            else:
                raise self._unusable("is not there, or must not be read")
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise self._unusable(f"cannot be read ({to_text(str(error))})") from None
        if not files:
            raise self._unusable("holds no list")
        if not all(kind_of(file) for file in files):
            raise self._unusable("is of an unknown kind")
        return files

    def _check_open(self) -> None:
        """Raise SurdError if a local folder cannot be entered: fsspec would skip it silently."""
        if isinstance(self._fs, LocalFileSystem):
            for name, reason in files_below(Path(self._path)).closed.items():
                raise self._unusable(f"holds a folder that cannot be read ({to_text(name)}: {reason})")

    def _record(self, place: str, row: TableRow, columns: ColumnMapping) -> SourceRecord:
        if isinstance(row, str):
            return new_record(self.name, place).reject("collect", Reason.UNREADABLE_ROW, f"{place}: {row}")
        assert columns.url is not None
        url, fault = url_fault(value_of(row, columns.url))
        fields = columns.fields(row)
        if fault:
            return new_record(self.name, place, **fields).reject("collect", Reason.NO_IMAGE, f"{place}: {fault}")
        return new_record(self.name, url_identity(url), url=url, **fields)

    def _unusable(self, why: str) -> SurdError:
        return SurdError(
            f"config field 'source' is 'urls:{self._shown}', which {redact_text(why)}; give a .parquet, .csv, .tsv or "
            ".jsonl file, or a folder of those"
        )


def _local(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    return fsspec.filesystem("file"), str(resolved(path))
