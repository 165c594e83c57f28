"""Dataset folders in Hugging Face's layout: metadata beside images, or parquet with images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from surd.pipeline.sources import Readable, RecordStream, new_record
from surd.pipeline.sources.column_mapping import ColumnMapping, guess_columns
from surd.pipeline.sources.column_names import listed
from surd.pipeline.sources.image_column import image_column
from surd.pipeline.sources.local_files import FolderListing, closed_folders, files_below, named_folder, stamps
from surd.pipeline.sources.stored_bytes import Cells, InMemory, stored_paths
from surd.pipeline.sources.table_reader import TableRow, kind_of, read_table, sampled
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError
from surd.schemas.printable import printable

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
_FILE_NAMES = ("file_name", "image_file_name", "image")
_CELL = re.compile(r"(.+\.parquet)/([^/]+)/(\d+)", re.DOTALL)


class HuggingFaceFolder(RecordStream):
    """``metadata.jsonl``, ``.csv`` or ``.parquet`` with a ``file_name`` column, at any depth; parquet files with a
    column of images; and images that no metadata lists. Records name the folder by its last part, so that it may move.

    https://huggingface.co/docs/datasets/image_dataset. The licence is a row's own, else that of the card, README.md.
    """

    kind = "huggingface"

    def __init__(self, path: str, config: BuildConfig) -> None:
        self._root = named_folder(self.kind, path)
        self._config = config
        self.name = f"{self.kind}:{to_text(self._root.name)}"
        self._cells: dict[tuple[str, str], Cells] = {}

    def fingerprint(self) -> str:
        """Names, sizes and times of all files, and which columns are read."""
        return stamps(self._root, [*self._files, *self._listing.closed], self._config.urls.model_dump_json())

    def records(self) -> Iterator[SourceRecord]:
        named: set[str] = set()
        for name in self._files:
            folder, _, base = name.rpartition("/")
            if base in METADATA:
                for record in self._listed(name, folder):
                    named.add(record.source_id)
                    yield record
            elif base.endswith(".parquet"):
                for record in self._embedded(name):
                    named.add(record.url or "")
                    yield record
            elif base.endswith(".arrow"):
                fault = f"{name} is an Arrow file, which is not read; save the dataset as parquet (Dataset.to_parquet)"
                yield new_record(self.name, name).reject("collect", Reason.UNREADABLE_FILE, fault)
        for name in self._files:
            if Path(name).suffix.lower() in _IMAGES and name not in named:
                yield self._at(name, self._unlisted(name) | {"detail": self._listing.unread_beside(name)})
        yield from closed_folders(self.name, self._listing)

    def location(self, url: str) -> Readable:
        """A file of the folder, or ``NAME.parquet/COLUMN/ROW``. Raises ValueError if it leads out of the folder."""
        cell = _CELL.fullmatch(url)
        path = (self._root / (cell[1] if cell else url)).resolve()
        if Path(url).is_absolute() or not path.is_relative_to(self._root):
            raise ValueError("the path leaves the folder")
        if not cell:
            return path
        return InMemory(self._cells.setdefault((cell[1], cell[2]), Cells(path, cell[2])).read(int(cell[3])))

    @cached_property
    def _listing(self) -> FolderListing:
        return files_below(self._root)

    @property
    def _files(self) -> list[str]:
        return self._listing.files

    def _listed(self, name: str, folder: str) -> Iterator[SourceRecord]:
        """One record per row of a metadata file; a row without an image is rejected with a reason."""
        try:
            with (self._root / name).open("rb") as file:
                names, rows = read_table(file, kind_of(name) or "")
                where = self._config.urls.image_column or next((one for one in _FILE_NAMES if one in names), None)
                if where not in names:
                    shown = (
                        f"{printable(name)} in {str(self._root)!r} has no column {where or 'file_name'}; its columns: "
                    )
                    remedy = "name the one with the images' paths in urls.image_column, or rename it to file_name"
                    raise SurdError(f"{shown}{listed(names)}; {remedy}")
                sample, rows = sampled(rows)
                others = [column for column in names if column != where]
                columns = guess_columns(others, self._config.urls, printable(name), need_url=False, sample=sample)
                for number, row in enumerate(rows, start=1):
                    yield self._row(f"{name}:{number}", folder, where, row, columns)
        except (OSError, ValueError) as error:
            fault = f"{name} cannot be read: {to_text(str(error))}"
            yield new_record(self.name, name).reject("collect", Reason.UNREADABLE_FILE, fault)

    def _row(self, place: str, folder: str, where: str, row: TableRow, columns: ColumnMapping) -> SourceRecord:
        if isinstance(row, str):
            return new_record(self.name, place).reject("collect", Reason.UNREADABLE_ROW, f"{place}: {row}")
        fields = self._fields(columns.fields({name: value for name, value in row.items() if name != where}), row)
        file = to_text(row.get(where)) if isinstance(row.get(where), str) else None
        if not file or not file.strip():
            record = new_record(self.name, place, **fields)
            return record.reject("collect", Reason.NO_IMAGE, f"{place}: names no image")
        return self._at(self._listing.find(below(folder, file)), fields)

    def _fields(self, fields: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """Fields that depend on the kind of dataset, not on column names."""
        return fields | {"licence": fields.get("licence") or self._licence}

    def _unlisted(self, name: str) -> dict[str, Any]:
        return {"licence": self._licence}

    @cached_property
    def _licence(self) -> str | None:
        """The licence in the YAML header of the dataset's card."""
        try:
            head = (self._root / "README.md").read_text(encoding="utf-8", errors="replace")[:100_000].split("---\n", 2)
            card = yaml.safe_load(head[1]) if len(head) == 3 and not head[0].strip() else {}
        except (OSError, yaml.YAMLError):
            return None
        licence = card.get("license") if isinstance(card, dict) else None
        names = licence if isinstance(licence, list) else [licence]
        return ", ".join(name for one in names if (name := to_text(one))) or None

    def _at(self, name: str, fields: dict[str, Any]) -> SourceRecord:
        """The record of a file; rejected if it is not in the folder."""
        return self._pointing(new_record(self.name, to_text(name) or "", **fields), name)

    def _pointing(self, record: SourceRecord, name: str) -> SourceRecord:
        """A record whose image is a file of the folder."""
        try:
            path = self.location(name) if to_text(name) == name else None
            problem = None if isinstance(path, Path) and path.is_file() else "there is no such file"
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            return record.reject("collect", Reason.NO_IMAGE, f"{to_text(name)}: {problem}")
        return record.model_copy(update={"url": name})

    def _embedded(self, name: str) -> Iterator[SourceRecord]:
        """One record per row of a parquet file with images."""
        try:
            with (self._root / name).open("rb") as file:
                names, rows = read_table(file, "parquet")
                schema = pq.read_schema(self._root / name)
                cell = image_column(schema, self._config.urls.image_column, printable(name))
                if cell is None:
                    fault = f"{name} holds no column of images; for a list of URLs the source is urls:"
                    yield new_record(self.name, name).reject("collect", Reason.UNREADABLE_FILE, fault)
                    return
                sample, rows = sampled(rows)
                others = [column for column in names if column != cell]
                columns = guess_columns(others, self._config.urls, printable(name), need_url=False, sample=sample)
                paths = stored_paths(self._root / name, cell)
                for number, (row, path) in enumerate(zip_longest(rows, paths)):
                    if row is None:
                        break
                    if isinstance(row, str):
                        record = new_record(self.name, f"{name}/{number}")
                        yield record.reject("collect", Reason.UNREADABLE_ROW, f"{name} row {number + 1}: {row}")
                        continue
                    fields = self._fields(columns.fields(row), row)
                    if columns.url and not fields.get("page_url"):
                        fields["page_url"] = to_text(row.get(columns.url))
                    record = new_record(self.name, f"{name}/{number}", **fields)
                    yield (
                        self._beside(record, name, path)
                        if path
                        else record.model_copy(update={"url": f"{name}/{cell}/{number}"})
                    )
        except (OSError, ValueError) as error:
            fault = f"{name} cannot be read: {to_text(str(error))}"
            yield new_record(self.name, name).reject("collect", Reason.UNREADABLE_FILE, fault)

    def _beside(self, record: SourceRecord, table: str, path: str) -> SourceRecord:
        """The record of a row that names a file instead of holding its bytes: beside the table, or below the folder."""
        stated = to_text(path) or ""
        beside = self._listing.find(below(table.rpartition("/")[0], stated))
        return self._pointing(record, beside if beside in self._listing.names else self._listing.find(stated))


def below(folder: str, path: str) -> str:
    """A path that is relative to a folder."""
    return f"{folder}/{path}" if folder and not path.startswith("/") else path
