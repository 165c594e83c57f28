"""Which units of a stage are done, from what and with which files: one Parquet ledger a stage.

A unit that ends writes a small record of its own into ``<stage>/ledger/``, so that threads, processes and machines
share no file. The driver folds the records into ``<stage>/ledger.parquet``. A record wins over the ledger, so a kill
between the two steps of folding loses nothing. Markers of older versions (``<stage>/part-NNNNN.done.json``) are read
and folded too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from surd.pipeline.build.damage import LASTING, DamagedFile
from surd.schemas import Marker

if TYPE_CHECKING:
    from surd.pipeline.build.folder import Build

LEDGER = "ledger.parquet"
RECORDS = "ledger"
_RECORD = re.compile(r"part-(\d{5,})\.json")
_OLD = re.compile(r"part-(\d{5,})\.done\.json")
_OF_LEDGER = re.compile(r"(.*/)?(ledger\.parquet|ledger/[^/]*)")
_OUTSIDE = re.compile(r"(^|/)\.\.(/|$)")  # a file that does not lie in the build
_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("parts", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("files", pa.list_(pa.string()), nullable=False),
        pa.field("sha256", pa.list_(pa.string()), nullable=False),
        pa.field("bytes", pa.list_(pa.int64()), nullable=False),  # null: not known, of a marker of an older version
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("transient", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)
_MARKER: TypeAdapter[Marker | None] = TypeAdapter(Marker | None)
_TAKEN_BACK = b"null\n"


class Ledger:
    """The markers of a stage as they were when it was read. The folders of their files are listed once, when needed."""

    def __init__(
        self,
        build: Build,
        stage: str,
        table: pa.Table,
        records: dict[int, Marker | None],
        damaged: Sequence[str] = (),
    ) -> None:
        self._build, self._stage, self._records = build, stage, records
        self.damaged = damaged  # files of records that are not valid; their units count as not done
        self._columns: dict[str, list[Any]] = table.to_pydict()
        self._rows = {unit: row for row, unit in enumerate(self._columns["unit"])}
        self._there: dict[str, dict[str, int]] = {}
        self._noted: set[int] = set()

    def note(self, marker: Marker) -> None:
        """A unit has ended since: this is its marker, and its files are there."""
        self._records[marker.part] = marker
        self._noted.add(marker.part)

    def units(self) -> list[int]:
        """Numbers of all units with a marker, whether or not their files are there."""
        taken_back = {unit for unit, record in self._records.items() if record is None}
        return sorted((self._rows.keys() | self._records.keys()) - taken_back)

    def recorded(self, unit: int) -> Marker | None:
        """The marker of a unit, whether or not its files are there."""
        if unit in self._records:
            return self._records[unit]
        row = self._rows.get(unit)
        if row is None:
            return None
        of = {name: values[row] for name, values in self._columns.items()}
        return Marker(
            stage=self._stage,
            part=unit,
            parts=of["parts"],
            fingerprint=of["fingerprint"],
            outputs=dict(zip(of["files"], of["sha256"], strict=True)),
            sizes={file: size for file, size in zip(of["files"], of["bytes"], strict=True) if size is not None},
            rows=of["rows"],
            transient=of["transient"],
            seconds=of["seconds"],
        )

    def marker(self, unit: int) -> Marker | None:
        """The marker of a unit; None when it has none, or a file of it is gone or has another size."""
        marker = self.recorded(unit)
        if marker is None or unit in self._noted:
            return marker
        return marker if missing(marker, self._size) is None else None

    def table(self) -> pa.Table:
        """All markers as the table that is written, in the order of their units."""
        rows = [
            {
                "unit": unit,
                "parts": marker.parts,
                "fingerprint": marker.fingerprint,
                "files": list(marker.outputs),
                "sha256": list(marker.outputs.values()),
                "bytes": [marker.sizes.get(file) for file in marker.outputs],
                "rows": marker.rows,
                "transient": marker.transient,
                "seconds": marker.seconds,
            }
            for unit in self.units()
            if (marker := self.recorded(unit))
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def _size(self, file: str) -> int | None:
        folder, _, name = file.rpartition("/")
        if folder not in self._there:
            self._there[folder] = self._build.sizes(folder)
        return self._there[folder].get(name)


def missing(marker: Marker, size_of: Callable[[str], int | None]) -> str | None:
    """The first file of a marker that is not there, or not with the size that it was written with."""
    for file in marker.outputs:
        try:
            size = size_of(file)
        except OSError as error:
            if error.errno not in LASTING:
                raise
            return file
        if size is None or size != marker.sizes.get(file, size):
            return file
    return None


def read_ledger(build: Build, stage: str) -> Ledger:
    """The ledger of a stage, with the records that are not folded yet. Raises SurdError when it is damaged."""
    return _read(build, stage)[0]


def fold(build: Build, stage: str) -> Ledger:
    """Write the records of a stage into its ledger, then remove them. Only while the build is held (``exclusive``)."""
    ledger, loose = _read(build, stage)
    if loose:
        table = ledger.table()
        build.write_table(f"{stage}/{LEDGER}", table)
        ledger = Ledger(build, stage, table, {})  # columns alone: no object a unit stays
        build.sync_folder(stage)  # after a loss of power too, no record is gone before its place in the ledger is there
        build.remove_files(loose)
        if folder := build.local_path(f"{stage}/{RECORDS}"):
            with suppress(OSError):  # not empty: more has been recorded
                folder.rmdir()
    return ledger


def recorded(build: Build, stage: str, unit: int) -> Marker | None:
    """The marker of one unit, whether or not its files are there. Raises SurdError when the ledger is damaged."""
    for file in (record_file(stage, unit), f"{stage}/part-{unit:05d}.done.json"):
        known, marker = _parse(file, build.read_many([file])[0])
        if known:
            return marker
    table = _ledger_table(build, stage)
    return Ledger(build, stage, table.filter(pc.equal(table["unit"], unit)), {}).recorded(unit)


def fresh(build: Build, stage: str, unit: int) -> Marker | None:
    """The record of a unit that is not folded yet, whether or not its files are there."""
    file = record_file(stage, unit)
    return _parse(file, build.read_many([file])[0])[1]


def take_back(build: Build, stage: str, unit: int) -> None:
    """Unmark a unit. Where the ledger may list it, a record says that it is not done."""
    if build.exists(f"{stage}/{LEDGER}") or build.exists(f"{stage}/part-{unit:05d}.done.json"):
        build.write_bytes(record_file(stage, unit), _TAKEN_BACK)
    else:
        build.remove(record_file(stage, unit))


def record_file(stage: str, unit: int) -> str:
    return f"{stage}/{RECORDS}/part-{unit:05d}.json"


def is_of_ledger(file: str) -> bool:
    """Whether a file is a ledger or a record of one. It is no output: its seconds differ from run to run."""
    return _OF_LEDGER.fullmatch(file) is not None


def _read(build: Build, stage: str) -> tuple[Ledger, list[str]]:
    """The ledger, and the files that can be removed once it is written: old markers first, since records win over them.

    The records are read before the ledger: what is folded in between is in both, or in the ledger alone.
    """
    markers: dict[int, Marker | None] = {}
    loose: list[str] = []
    damaged: list[str] = []
    for folder, name in ((stage, _OLD), (f"{stage}/{RECORDS}", _RECORD)):
        files = {f"{folder}/{one}": int(match[1]) for one in build.listdir(folder) if (match := name.fullmatch(one))}
        for (file, unit), data in zip(files.items(), build.read_many(files), strict=True):
            known, marker = _parse(file, data)
            if known:
                markers[unit] = marker
            if isinstance(data, bytes):
                loose.append(file)
            if marker is None and data != _TAKEN_BACK and not isinstance(data, FileNotFoundError):
                damaged.append(file)
    return Ledger(build, stage, _ledger_table(build, stage), markers, damaged), loose


def _parse(file: str, data: bytes | OSError) -> tuple[bool, Marker | None]:
    """Whether a record or old marker says anything of its unit, and what.

    A damaged record counts as not done; a damaged marker of an older version as absent.
    """
    if isinstance(data, FileNotFoundError):
        return False, None
    if isinstance(data, OSError):
        if data.errno not in LASTING and not isinstance(data, IsADirectoryError):
            raise data
        return not _OLD.search(file), None
    try:
        marker = _MARKER.validate_json(data)
        if not any(_OUTSIDE.search(output) for output in (marker.outputs if marker else ())):
            return True, marker
    except ValueError:
        pass
    return not _OLD.search(file), None


def _ledger_table(build: Build, stage: str) -> pa.Table:
    file = f"{stage}/{LEDGER}"
    try:
        table = build.read_table(file, _SCHEMA.names).cast(_SCHEMA)
        outside = pc.match_substring_regex(pc.list_flatten(table["files"]), _OUTSIDE.pattern)
        if not pc.any(outside).as_py():
            return table
    except DamagedFile:
        if build.exists(file):
            raise
        return _SCHEMA.empty_table()
    except (ValueError, pa.ArrowException):
        pass
    raise DamagedFile(build, file, "is not a valid ledger of a stage")
