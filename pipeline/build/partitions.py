"""Which partition each record lies in when a source is collected again.

Everything behind collect works a partition at a time and is redone where the partition changed. So a record stays in
the partition where it lies, in the order of before; one that the source no longer has leaves a gap; and new ones fill
partitions that are less than half full, then new partitions at the end. A source whose newest records come first thus
moves none of the old ones, and partitions keep their numbers: one without any record left stays, empty, until new
records fill it; only at the end such ones go.

Why not partitions by the first digits of the key: those keep a record in its place too, but new records go to all
partitions alike. A source that grew by a hundredth would change nearly every partition, and with a fixed number of
digits partitions would grow with the source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.scratch import scratch
from surd.pipeline.tables import Documents
from surd.schemas import SourceRecord

#: The partitions that the present ones were made from, a row each: its keys in their order. A collect that was killed
#: amid writing partitions goes on from it.
FORMER = "collect/former.parquet"
_SCHEMA = pa.schema([pa.field("keys", pa.list_(pa.uint64()), nullable=False)])
_ABOUT = b"surd"
_KNOWN = pa.schema([("row", pa.int64()), ("start", pa.int64()), ("length", pa.int64())])
_ADDED = pa.schema([("start", pa.int64()), ("length", pa.int64())])

Keys = npt.NDArray[np.uint64]


class FormerPartitions:
    """Where each record lay: 12 bytes of memory a record, 16 from 4 billion on."""

    def __init__(self, partitions: Sequence[Keys]) -> None:
        lengths = [len(keys) for keys in partitions]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        keys = np.concatenate([np.empty(0, np.uint64), *partitions])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._rows = order.astype(np.uint32 if len(keys) < 1 << 32 else np.int64)

    def __len__(self) -> int:
        """Partitions."""
        return len(self._starts) - 1

    def row(self, key: int) -> int | None:
        """The number of a record in the former order, over all partitions; None of a new record."""
        index = int(np.searchsorted(self._keys, np.uint64(key)))
        if index < len(self._keys) and int(self._keys[index]) == key:
            return int(self._rows[index])
        return None

    def partition(self, row: int) -> int:
        """The partition of a record by its number."""
        return int(np.searchsorted(self._starts, row, side="right")) - 1


def read_former(build: Build, present: dict[str, Any] | None, source: str, size: int) -> FormerPartitions | None:
    """The partitions that a collect of this source starts from; None where it makes them anew by position.

    That is so in a fresh build, and after another source or another number of records a partition. ``present``: of the
    partitions that are there, if they are whole, their ``source`` and ``partition_size``; without the latter an earlier
    version made them by position. They are noted in a file, so that a kill while others are written over them changes
    nothing. Raises SurdError if that file, or a partition, is damaged.
    """
    if present is not None:
        partitions = [_keys(build, part) for part in range(build.part_count())]
        about = {"partition_size": _size(partitions, size), **present}
        table = pa.table({"keys": pa.array(partitions, _SCHEMA.field("keys").type)}, schema=_SCHEMA)
        table = table.replace_schema_metadata({_ABOUT: json.dumps(about)})
        Build(build.root).write_table(FORMER, table)  # a Build of its own: the file is no output of the stage
    elif build.exists(FORMER):
        table = build.read_table(FORMER)
        with reading(build, FORMER):
            about = json.loads(table.schema.metadata[_ABOUT])
            partitions = [row.values.to_numpy(zero_copy_only=False) for row in table.cast(_SCHEMA)["keys"]]
    else:
        return None
    return FormerPartitions(partitions) if about == {"source": source, "partition_size": size} else None


def in_former_partitions(
    build: Build, records: Iterable[SourceRecord], former: FormerPartitions, size: int
) -> Iterator[list[SourceRecord]]:
    """Partition after partition once all records are there; nothing if there are none. Memory holds one partition."""
    with scratch(build, "collect") as tables, Documents(tables.file("records")) as documents:
        left = np.zeros(len(former), np.int64)
        with tables.writing("known", _KNOWN) as known, tables.writing("added", _ADDED) as added:
            for record in records:
                start, length = documents.add(record.model_dump_json().encode())
                row = former.row(int(record.key, 16))
                if row is None:
                    added.add({"start": start, "length": length})
                else:
                    known.add({"row": row, "start": start, "length": length})
                    left[former.partition(row)] += 1
        documents.flush()
        tables.make("in_order", 'SELECT "row", "start", "length" FROM known ORDER BY "row"')
        if not tables.count("known") + tables.count("added"):
            return
        old, new = tables.rows("in_order"), tables.rows("added")
        for count in np.trim_zeros(left, "b").tolist():
            room = size - count if 2 * count < size else 0
            rows = [*islice(old, count), *islice(new, room)]
            yield [SourceRecord.model_validate_json(documents.read(row["start"], row["length"])) for row in rows]
        while rows := list(islice(new, size)):
            yield [SourceRecord.model_validate_json(documents.read(row["start"], row["length"])) for row in rows]


def _keys(build: Build, part: int) -> Keys:
    file = part_file("collect", part)
    keys = build.read_table(file, ["key"])["key"]
    with reading(build, file):
        return np.array([int(key, 16) for key in keys.to_pylist()], np.uint64)


def _size(partitions: Sequence[Keys], size: int) -> int | None:
    """Records a partition, of partitions made by position; of a single one that is ``size`` where that fits."""
    full, last = {len(keys) for keys in partitions[:-1]}, max(len(keys) for keys in partitions[-1:])
    if not full:
        return max(size, last)
    return full.pop() if len(full) == 1 and last <= max(full) else None
