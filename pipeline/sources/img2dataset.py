"""The output folder of img2dataset: its downloads, with their bytes, and its failures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from surd.pipeline import untrusted_json
from surd.pipeline.net.urls import is_http
from surd.pipeline.sources import Readable, RecordStream, new_record
from surd.pipeline.sources.column_mapping import ColumnMapping, guess_columns
from surd.pipeline.sources.local_files import named_folder, stamps
from surd.pipeline.sources.stored_bytes import Cells, InMemory, StoredTarMember, tar_members
from surd.pipeline.sources.table_reader import TableRow, read_table
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_SHARD = re.compile(r"\d+")
_OWN = ("key", "status", "error_message")
_CELL = "jpg", "png", "webp"  # the column of --output_format parquet is named after the encoding


class Img2dataset(RecordStream):
    """Shards of ``--output_format webdataset``, ``files`` and ``parquet``. Records name the folder by its last part.

    Rows come from ``NNNNN.parquet``, or from the JSON beside the images if a shard has none (the run was stopped).
    Bytes are read in place, from the tar, the folder or the table.
    """

    def __init__(self, path: str, config: BuildConfig) -> None:
        self._root = named_folder("img2dataset", path)
        self._config = config
        self.name = f"img2dataset:{to_text(self._root.name)}"
        self._tars: dict[str, dict[str, StoredTarMember]] = {}
        self._cells: dict[tuple[str, str], Cells] = {}

    def fingerprint(self) -> str:
        """Names, sizes and times of the shards, and which columns are read."""
        names = sorted(path.name for path in self._root.iterdir() if _SHARD.fullmatch(path.name.partition(".")[0]))
        return stamps(self._root, names, self._config.urls.model_dump_json())

    def records(self) -> Iterator[SourceRecord]:
        shards = sorted({path.name.partition(".")[0] for path in self._root.iterdir() if self._is_shard(path)})
        if not shards:
            raise SurdError(
                f"config field 'source' names {str(self._root)!r}, which holds no shard like 00000.tar, 00000.parquet "
                "or 00000/; give the output_folder of img2dataset (formats webdataset, files or parquet)"
            )
        for shard in shards:
            yield from self._shard(shard)

    def location(self, url: str) -> Readable:
        """The bytes of ``NNNNN.tar/name``, ``NNNNN/name`` or ``NNNNN.parquet/column/row``."""
        shard, _, name = url.partition("/")
        if not _SHARD.fullmatch(shard.partition(".")[0]) or not name:
            raise ValueError("the path leaves the folder")
        if shard.endswith(".tar"):
            member = self._members(shard).get(name)
            if member is None:
                raise ValueError(f"{shard} holds no {name}")
            return member
        if shard.endswith(".parquet"):
            column, _, row = name.rpartition("/")
            cells = self._cells.setdefault((shard, column), Cells(self._root / shard, column))
            return InMemory(cells.read(int(row)))
        path = (self._root / shard / name).resolve()
        if not path.is_relative_to(self._root):
            raise ValueError("the path leaves the folder")
        return path

    def _is_shard(self, path: Path) -> bool:
        stem, dot, suffix = path.name.partition(".")
        return bool(_SHARD.fullmatch(stem)) and (suffix in ("tar", "parquet") if dot else path.is_dir())

    def _members(self, tar: str) -> dict[str, StoredTarMember]:
        """The members of a tar. Only one tar is kept in memory: a long list has many."""
        if tar not in self._tars:
            self._tars = {tar: tar_members(self._root / tar)}
        return self._tars[tar]

    def _shard(self, shard: str) -> Iterator[SourceRecord]:
        try:
            images, sidecars = self._files_of(shard)
        except OSError as error:
            fault = f"the images of shard {shard} cannot be read: {to_text(str(error))}"
            yield new_record(self.name, f"{shard}.tar").reject("collect", Reason.UNREADABLE_FILE, fault)
            images, sidecars = {}, {}
        table = self._root / f"{shard}.parquet"
        if not table.exists():
            rows = (self._sidecar_row(sidecars.get(key), key) for key in sorted({*images, *sidecars}))
            columns = replace(_SIDECAR_COLUMNS, whole=self._config.urls.whole_rows)
            yield from (self._from_row(shard, n, row, columns, images, None) for n, row in enumerate(rows))
            return
        try:
            with table.open("rb") as file:
                names, table_rows = read_table(file, "parquet")
                columns = guess_columns(names, self._config.urls, f"the table {table.name!r}", need_url=False)
                cell = None if images else _image_column(table)
                for number, row in enumerate(table_rows):
                    yield self._from_row(shard, number, row, columns, images, cell)
        except (OSError, ValueError) as error:
            fault = f"{table.name} cannot be read: {error}"
            yield new_record(self.name, table.name).reject("collect", Reason.UNREADABLE_FILE, fault)

    def _files_of(self, shard: str) -> tuple[dict[str, str], dict[str, Readable]]:
        """Key -> url of its image, and key -> its JSON, in the tar or the folder of a shard."""
        images: dict[str, str] = {}
        sidecars: dict[str, Readable] = {}
        files: dict[str, Readable] = {}
        if (self._root / f"{shard}.tar").is_file():
            files = {f"{shard}.tar/{name}": member for name, member in self._members(f"{shard}.tar").items()}
        elif (self._root / shard).is_dir():
            files = {f"{shard}/{path.name}": path for path in sorted((self._root / shard).iterdir())}
        for url, file in files.items():
            key, _, suffix = url.rpartition("/")[2].partition(".")
            if f".{suffix.lower()}" in _IMAGES:
                images.setdefault(key, url)
            elif suffix == "json":
                sidecars[key] = file
        return images, sidecars

    def _sidecar_row(self, file: Readable | None, key: str) -> TableRow:
        if file is None:
            return {"key": key}
        try:
            with file.open("rb") as opened:
                value = untrusted_json.parse(opened.read(1_000_000))
        except (OSError, ValueError) as error:
            return {"key": key, "unread": str(error)}
        return {**value, "key": key} if isinstance(value, dict) else {"key": key}

    def _from_row(
        self, shard: str, number: int, row: TableRow, columns: ColumnMapping, images: dict[str, str], cell: str | None
    ) -> SourceRecord:
        if isinstance(row, str):
            fault = f"{shard}.parquet:{number + 1}: {row}"
            return new_record(self.name, f"{shard}:{number}").reject("collect", Reason.UNREADABLE_ROW, fault)
        key = to_text(row.get("key")) or str(number)
        address = to_text(row.get(columns.url)) if columns.url else None
        fields = columns.fields({name: value for name, value in row.items() if columns.whole or name not in _OWN})
        if address and is_http(address) and not fields.get("page_url"):
            fields["page_url"] = address
        record = new_record(self.name, f"{shard}/{key}", **fields)
        status, error = to_text(row.get("status")) or "success", to_text(row.get("error_message")) or ""
        if status != "success":
            return record.reject("collect", _reason(status, error), f"img2dataset: {status}: {error} ({address})")
        url = images.get(key) or (f"{shard}.parquet/{cell}/{number}" if cell else None)
        if url is None:
            return record.reject("collect", Reason.NO_IMAGE, f"img2dataset: its bytes are not in shard {shard}")
        return record.model_copy(update={"url": url})


_SIDECAR_COLUMNS = ColumnMapping(
    url="url", prompt="caption", others={"author": "author", "licence": "license", "terms": "terms"}
)


def _reason(status: str, error: str) -> Reason:
    """The Reason for img2dataset's error text: of the server, the network or the decoder."""
    if status == "failed_to_resize":
        sized = {"image area too large": Reason.TOO_LARGE, "image too small": Reason.NO_IMAGE}
        return sized.get(error, Reason.NO_IMAGE if "aspect ratio" in error else Reason.BROKEN_IMAGE)
    if "X-Robots-Tag" in error:
        return Reason.OPTED_OUT
    return Reason.HTTP_ERROR if re.search(r"HTTP Error \d{3}", error) else Reason.FETCH_FAILED


def _image_column(table: Path) -> str | None:
    """The column of image bytes of ``--output_format parquet``."""
    schema: Any = pq.read_schema(table)
    return next((name for name in _CELL if name in schema.names), None)
