"""Streaming reader for tables in parquet, csv, tsv and jsonl, which may be large or damaged."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import lzma
import math
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date, datetime
from itertools import chain, islice, zip_longest
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline import untrusted_json
from surd.pipeline.sources.column_names import is_text_name
from surd.pipeline.untrusted_json import to_text

MAX_LINE = 8_000_000  # bytes; rows are text, and a longer line is not a row
MAX_LINES = 1_000  # of one csv row: if there are more, a quote was never closed
BATCH = 1_000
_KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)  # raised by truncated compressed files
_SAMPLED = 1_000  # rows of JSON that determine the columns if it cannot be read twice
_LOOKED_AT = 100  # rows of any table by which columns are told apart that have like names
MAX_NAMES = 1_000  # of JSON that counts as a table; an object of objects has a name for every row
_URL = re.compile(r'[" ]{0,2}https?://', re.IGNORECASE)

TableRow = dict[str, Any] | str
"""Values by column; or, for a row that cannot be read, the reason."""


def kind_of(name: str) -> str | None:
    """``parquet``, ``csv``, ``tsv`` or ``jsonl`` by a file's name (``.gz`` and the like aside); None for another."""
    path = PurePosixPath(name.lower())
    if path.suffix in _COMPRESSED:
        path = path.with_suffix("")
        return kind if (kind := _KINDS.get(path.suffix)) != "parquet" else None
    return _KINDS.get(path.suffix)


def read_table(file: IO[bytes], kind: str) -> tuple[list[str], Iterator[TableRow]]:
    """The columns of an open file, and a lazy iterator over its rows; memory does not grow with the file.

    The columns are those of the whole file; of JSON that cannot be read twice, those of its first 1,000 rows. Of
    parquet, rows leave out columns of bytes, unless a usual name says that they are text, and of nested numbers. Raises
    ValueError if the file is not of this kind.
    """
    if kind == "parquet":
        return _parquet(file)
    if kind == "jsonl":
        return _json_rows(file)
    return _csv_rows(_lines(file, has_header=True), "\t" if kind == "tsv" else None)


def sampled(rows: Iterator[TableRow]) -> tuple[list[TableRow], Iterator[TableRow]]:
    """The first rows, to look at, and all of them; what goes wrong among the first is raised in its turn."""
    sample: list[TableRow] = []
    try:
        sample.extend(islice(rows, _LOOKED_AT))
    except (OSError, ValueError, *DAMAGED) as error:
        return sample, chain(sample, _raising(error))
    return sample, chain(sample, rows)


def _raising(error: Exception) -> Iterator[TableRow]:
    raise error
    yield {}


def storable(value: Any) -> Any:
    """A value of a row in a form that JSON has: text, number, boolean or None. Dates become ISO text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    return to_text(value if isinstance(value, str) else str(value))


def _parquet(file: IO[bytes]) -> tuple[list[str], Iterator[TableRow]]:
    try:
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is no parquet file ({' '.join(str(error).split())[:200]})") from None
    readable = [field.name for field in schema if _is_readable(field.type, field.name)]
    return schema.names, _parquet_rows(table, list(dict.fromkeys(readable)))


def _is_readable(kind: pa.DataType, name: str = "") -> bool:
    """Whether a column's values are worth reading as text: bytes are pictures, nested numbers vectors and boxes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return all(_is_readable(kind.field(at).type) for at in range(kind.num_fields))
    if pa.types.is_nested(kind):
        inner = getattr(kind, "value_type", None)
        return inner is not None and not pa.types.is_floating(inner) and _is_readable(inner)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not is_bytes or is_text_name(name)


def _parquet_rows(table: pq.ParquetFile, readable: list[str]) -> Iterator[TableRow]:
    try:
        for batch in table.iter_batches(BATCH, columns=readable):
            if not readable:
                yield from ({} for _ in range(batch.num_rows))
                continue
            columns = [_cells(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                fault = next((value for value in values if isinstance(value, UnicodeDecodeError)), None)
                yield dict(zip(batch.schema.names, values, strict=True)) if fault is None else "its text is not UTF-8"
    except (pa.ArrowException, OSError) as error:
        yield f"the file breaks off here ({' '.join(str(error).split())[:200]})"


def _cells(column: pa.Array) -> list[Any]:
    """The values of a column; a text that is not UTF-8 as its UnicodeDecodeError."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_cell(value) for value in column]


def _cell(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error


def _lines(file: IO[bytes], *, has_header: bool) -> Iterator[str | None]:
    """Lines with their ends; None for one that is too long or not UTF-8. UTF-16 is detected by BOM or zero bytes."""
    head = file.read(4)
    stream: Any = io.BufferedReader(_Prefixed(head, file), 1 << 16)
    wide = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else None
    if not wide and b"\0" in head and len(head) == 4:
        wide = "utf-16-le" if head[1] == 0 else "utf-16-be"
    if wide:
        stream = io.TextIOWrapper(stream, encoding=wide, errors="replace", newline="\n")
    end: Any = "\n" if wide else b"\n"
    first = True
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE and line[-1:] != end:
            while (rest := stream.readline(MAX_LINE)) and rest[-1:] != end:
                pass
            yield None
            continue
        try:
            text = line if wide else line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError:
            # A header in another encoding still names its columns, as far as they are ASCII.
            text = line.decode("utf-8", "replace") if first and has_header else None
        first = False
        yield text


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] if self._head else self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


_UNREADABLE = f"it is not UTF-8, or longer than {MAX_LINE:,} bytes; save the list as UTF-8"


def _json_rows(file: IO[bytes]) -> tuple[list[str], Iterator[TableRow]]:
    head = file.read(4)
    try:
        file.seek(0)
    except (OSError, ValueError):
        rows = _parsed(io.BufferedReader(_Prefixed(head, file), 1 << 16))
        sampled = [*islice(rows, _SAMPLED)]
        return _names(sampled), chain(sampled, rows)
    names: list[str] = []
    with suppress(OSError, *DAMAGED):  # the reading of the rows will say so
        names = _names(_parsed(file))
    file.seek(0)
    return names, _parsed(file)


def _parsed(file: Any) -> Iterator[TableRow]:
    return (_json_row(line) for line in _lines(file, has_header=False) if line is None or line.strip())


def _names(rows: Iterable[TableRow]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, dict) and not names.keys() >= row.keys():
            names |= dict.fromkeys(row)
            if len(names) > MAX_NAMES:
                break
    return [*names]


def _json_row(line: str | None) -> TableRow:
    if line is None:
        return _UNREADABLE
    try:
        value = untrusted_json.parse(line)
    except ValueError as error:
        return f"it is not JSON: {error}"
    return value if isinstance(value, dict) else f"it is {type(value).__name__}, not a JSON object"


def _csv_rows(lines: Iterator[str | None], delimiter: str | None) -> tuple[list[str], Iterator[TableRow]]:
    """``delimiter`` None: a comma, or a semicolon or tab if the header has those and no comma.

    In a table of tabs a quote is a letter like any, unless every name of the header stands in quotes.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    header_line = next(lines, "")
    if delimiter is None:
        others = [mark for mark in ";\t" if header_line and mark in header_line]
        delimiter = others[0] if others and "," not in (header_line or "") else ","
    cells = (header_line or "").rstrip("\r\n").split("\t")
    lines = chain((header_line,), lines)
    if delimiter == "\t" and not all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells):
        records = _tab_records(lines)
    else:
        records = _csv_records(lines, delimiter)
    header = next(records, [])
    columns = [to_text(name.strip()) or "" for name in header] if isinstance(header, list) else []
    return columns, (_csv_row(record, columns) for record in records)


def _csv_row(record: list[str] | str, columns: list[str]) -> TableRow:
    """A row by column. One with fewer fields than the header has a null in each of the others."""
    if isinstance(record, str):
        return record
    if any(cell.strip() for cell in record[len(columns) :]):
        return f"it has {len(record)} fields, the header {len(columns)}"
    return dict(zip_longest(columns, record[: len(columns)]))


def _tab_records(lines: Iterator[str | None]) -> Iterator[list[str] | str]:
    for line in lines:
        if line is None:
            yield _UNREADABLE
        elif text := line.replace("\0", "").rstrip("\r\n"):
            yield text.split("\t")


def _csv_records(lines: Iterator[str | None], delimiter: str) -> Iterator[list[str] | str]:
    """Rows of fields, which may have line ends in quotes. A quote that is never closed loses only its own line."""
    waiting: deque[str | None] = deque()
    while True:
        taken: list[str] = []
        end = False
        source = _until_fault(waiting, lines, taken)
        try:
            fields = next(csv.reader(source, delimiter=delimiter, strict=True), None)
            end = fields is None
        except csv.Error:
            waiting.extendleft(reversed(taken[1:]))
            yield "a quote is not closed, or a letter follows one"
            continue
        if len(taken) > 1 and fields and _holds_rows(taken, delimiter):
            waiting.extendleft(reversed(taken[1:]))
            yield "a quote is not closed in its line, and the lines that follow are rows of their own"
        elif fields:
            yield fields
        elif end:
            if waiting and waiting[0] is None:
                waiting.popleft()
                yield _UNREADABLE
            elif not taken:
                return


def _holds_rows(taken: list[str], delimiter: str) -> bool:
    """Whether lines of a cell are rows themselves: they have a URL where the first line has its own.

    The quote that opens such a cell was a letter, and the one that closes it another (``a monitor of 15"``).
    """
    places = [place for place, cell in enumerate(taken[0].split(delimiter)) if _URL.match(cell)]
    further = [line.split(delimiter) for line in taken[1:]]
    return any(
        len(cells) > 1 and len(cells) > place and _URL.match(cells[place]) for cells in further for place in places
    )


def _until_fault(waiting: deque[str | None], lines: Iterator[str | None], taken: list[str]) -> Iterator[str]:
    """Lines for one csv row, also appended to ``taken``; a line that cannot be read is put back and ends them."""
    size = 0
    while len(taken) < MAX_LINES and size < MAX_LINE:
        line = waiting.popleft() if waiting else next(lines, "")
        if line is None:
            waiting.appendleft(None)
            return
        if not line:
            return
        taken.append(line)
        size += len(line)
        yield line.replace("\0", "")
