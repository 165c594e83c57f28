"""The output folder of img2dataset: its downloads, with their bytes, and its failures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from surd.pipeline import untrusted_json
from surd.pipeline.net.urls import is_http
from surd.pipeline.sources import Readable, RecordStream, new_record
from surd.pipeline.sources.column_mapping import ColumnMapping, guess_columns
from surd.pipeline.sources.column_names import PROMPT_NAMES, likeliest
from surd.pipeline.sources.local_files import files_below, named_folder, stamps
from surd.pipeline.sources.sample_files import SampleFiles, samples
from surd.pipeline.sources.stored_bytes import Cells, InMemory, StoredTarMember, tar_members
from surd.pipeline.sources.table_reader import TableRow, read_table, sampled
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

_SHARD = re.compile(r"\d+")
TEXT = ".txt"  # stands for the text beside an image among the columns of its JSON
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
            found = self._files_of(shard)
        except OSError as error:
            fault = f"the images of shard {shard} cannot be read: {to_text(str(error))}"
            yield new_record(self.name, f"{shard}.tar").reject("collect", Reason.UNREADABLE_FILE, fault)
            found = {}
        table = self._root / f"{shard}.parquet"
        if not table.exists():
            for number, key in enumerate(sorted(found)):
                if found[key].image or found[key].fault or found[key].document:
                    yield self._from_row(shard, number, *self._from_files(key, found[key]), found, None)
            return
        try:
            with table.open("rb") as file:
                names, table_rows = read_table(file, "parquet")
                sample, table_rows = sampled(table_rows)
                where = f"the table {table.name!r}"
                columns = guess_columns(names, self._config.urls, where, need_url=False, sample=sample)
                cell = None if found else _image_column(table)
                by_name = _by_last_part(found)
                for number, row in enumerate(table_rows):
                    yield self._from_row(shard, number, row, columns, by_name, cell)
        except (OSError, ValueError) as error:
            fault = f"{table.name} cannot be read: {error}"
            yield new_record(self.name, table.name).reject("collect", Reason.UNREADABLE_FILE, fault)

    def _files_of(self, shard: str) -> dict[str, SampleFiles]:
        """Key -> its files, as URLs, in the tar or the folder of a shard."""
        if (self._root / f"{shard}.tar").is_file():
            names = [f"{shard}.tar/{name}" for name in self._members(f"{shard}.tar")]
        elif (self._root / shard).is_dir():
            names = [f"{shard}/{name}" for name in files_below(self._root / shard).files]
        else:
            names = []
        return {key.partition("/")[2]: files for key, files in samples(names).items()}

    def _from_files(self, key: str, files: SampleFiles) -> tuple[dict[str, Any], ColumnMapping]:
        """The row in a sample's JSON, and where its caption is: in the JSON, or in the .txt that lies beside it."""
        row: dict[str, Any] = {}
        if files.document:
            try:
                value = untrusted_json.parse(self._read(files.document, 1_000_000))
                row = value if isinstance(value, dict) else {}
            except (OSError, ValueError) as error:
                row = {"unread": str(error)}
        configured = self._config.urls.prompt_column
        prompts = [configured] if configured else likeliest([*row], PROMPT_NAMES)
        if files.text and not configured:
            with suppress(OSError, ValueError):
                row[TEXT] = self._read(files.text, 100_000).decode("utf-8", "replace")
                prompts.append(TEXT)
        columns = replace(_SIDECAR_COLUMNS, prompt=prompts[0] if prompts else None, rivals=tuple(prompts[1:]))
        return row | {"key": key}, replace(columns, whole=self._config.urls.whole_rows)

    def _read(self, url: str, most: int) -> bytes:
        with self.location(url).open("rb") as file:
            return file.read(most)

    def _from_row(
        self,
        shard: str,
        number: int,
        row: TableRow,
        columns: ColumnMapping,
        found: dict[str, SampleFiles],
        cell: str | None,
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
        files = found.get(key) or SampleFiles()
        if files.fault:
            return record.reject("collect", Reason.NO_IMAGE, f"{key} of shard {shard}: {files.fault}")
        url = files.image or (f"{shard}.parquet/{cell}/{number}" if cell else None)
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


def _by_last_part(found: dict[str, SampleFiles]) -> dict[str, SampleFiles]:
    """The samples of a shard also by the last part of their key, where that is one sample's alone."""
    parts = Counter(key.rpartition("/")[2] for key in found)
    return {part: files for key, files in found.items() if parts[part := key.rpartition("/")[2]] == 1} | found
