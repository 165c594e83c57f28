"""States in which the folder of a build may be found: cut, emptied, exchanged, of another kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class State:
    """``file``: what is damaged, below the build; ``harm``: how."""

    file: str
    harm: Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def scrambled(path: Path) -> None:
    """The same length, other bytes in the middle."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 40 : middle + 40] = bytes(byte ^ 0x5A for byte in data[middle - 40 : middle + 40])
    path.write_bytes(data)


def folder_instead(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"not a folder")


def circular_link(path: Path) -> None:
    """What can neither be opened nor entered, also by root, for whom no permission is missing."""
    missing(path)
    path.symlink_to(path.name)


def text(said: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(said.encode("utf-8", "surrogatepass")) and None


def document(**fields: object) -> Callable[[Path], None]:
    """Fields of a JSON document exchanged."""

    def harm(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return harm


def table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def other_columns(found: pa.Table) -> pa.Table:
    return pa.table({"id": list(range(len(found))), "text": ["x"] * len(found)})


def column(name: str, value: object) -> Callable[[pa.Table], pa.Table]:
    """A column with the same value in every row."""

    def change(found: pa.Table) -> pa.Table:
        at = found.column_names.index(name)
        return found.set_column(at, name, pa.array([value] * len(found), found.schema.field(name).type))

    return change


def record(path: Path, data: bytes) -> None:
    """What a unit recorded since the ledger was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def keys_as_numbers(found: pa.Table) -> pa.Table:
    return found.set_column(found.column_names.index("key"), "key", pa.array(range(len(found)), pa.int64()))


def half(found: pa.Table) -> pa.Table:
    return found.slice(0, len(found) // 2)


def other_keys(found: pa.Table) -> pa.Table:
    column = pa.array([f"{number:016x}" for number in range(len(found))])
    return found.set_column(found.column_names.index("key"), "key", column)


def odd_verdicts(found: pa.Table) -> pa.Table:
    return found.set_column(found.column_names.index("status"), "status", pa.array(["perhaps"] * len(found)))


DEEP = "[" * 100_000
RECORD, MANIFEST, INDEX, SHARD = "build.json", "shards/manifest.json", "shards/index.parquet", "shards/surd-00000.tar"
SELECT, CLEAN, COLLECT, FETCH = (f"{stage}/part-00000.parquet" for stage in ("select", "clean", "collect", "fetch"))
STATES = {
    "a part cut": State(CLEAN, cut),
    "a part empty": State(CLEAN, emptied),
    "a part with other columns": State(CLEAN, table(other_columns)),
    "a part of other rows": State(CLEAN, table(half)),
    "a part of other keys": State(CLEAN, table(other_keys)),
    "a part scrambled": State(CLEAN, scrambled),
    "a part missing": State(CLEAN, missing),
    "a part that is a folder": State(CLEAN, folder_instead),
    "the selection cut": State(SELECT, cut),
    "the selection with other columns": State(SELECT, table(other_columns)),
    "the selection with odd verdicts": State(SELECT, table(odd_verdicts)),
    "the records cut": State(COLLECT, cut),
    "the records with numbers for keys": State(COLLECT, table(keys_as_numbers)),
    "the pairs cut": State(FETCH, cut),
    "the pictures cut": State("fetch/part-00000.tar", cut),
    "the pictures missing": State("fetch/part-00000.tar", missing),
    "a manifest empty": State(MANIFEST, emptied),
    "a manifest cut": State(MANIFEST, cut),
    "a manifest that is no JSON": State(MANIFEST, text("no JSON")),
    "a manifest that is a list": State(MANIFEST, text("[]")),
    "a manifest nested without end": State(MANIFEST, text(DEEP)),
    "a manifest missing": State(MANIFEST, missing),
    "a manifest that is a folder": State(MANIFEST, folder_instead),
    "a manifest of no shard": State(MANIFEST, document(shards=[], count=0)),
    "a manifest that leads elsewhere": State(
        MANIFEST, document(shards=[{"name": "../../x.tar", "count": 1, "bytes": 1, "sha256": "0" * 64}])
    ),
    "a shard missing": State(SHARD, missing),
    "a shard cut": State(SHARD, cut),
    "a shard that is a folder": State(SHARD, folder_instead),
    "the shards' folder a file": State("shards", file_instead),
    "the shards' folder a circular link": State("shards", circular_link),
    "an index cut": State(INDEX, cut),
    "an index missing": State(INDEX, missing),
    "an index with other columns": State(INDEX, table(other_columns)),
    "build.json empty": State(RECORD, emptied),
    "build.json that is no JSON": State(RECORD, text("no JSON")),
    "build.json that is a list": State(RECORD, text("[1, 2]")),
    "build.json of bytes that are no text": State(RECORD, lambda path: path.write_bytes(b"\xff\xfe{}") and None),
    "build.json with text for its config": State(RECORD, document(config="x")),
    "build.json with an unknown field": State(RECORD, document(config={"colour": "red"})),
    "build.json with other types": State(RECORD, document(config={"select": 7, "partition_size": "many"})),
    "build.json without a config": State(RECORD, text("{}")),
    "build.json missing": State(RECORD, missing),
    "build.json that is a folder": State(RECORD, folder_instead),
    "collect's ledger cut": State("collect/ledger.parquet", cut),
    "collect's ledger of too many parts": State("collect/ledger.parquet", table(column("parts", 900))),
    "a ledger cut": State("clean/ledger.parquet", cut),
    "a ledger scrambled": State("clean/ledger.parquet", scrambled),
    "a ledger of other columns": State("clean/ledger.parquet", table(other_columns)),
    "a ledger that is a folder": State("clean/ledger.parquet", folder_instead),
    "a ledger that leads elsewhere": State("clean/ledger.parquet", table(column("files", ["../../x"]))),
    "a record cut": State("clean/ledger/part-00000.json", lambda path: record(path, b'{"stage": "cl')),
    "a record that is a folder": State(
        "clean/ledger/part-00000.json", lambda path: (path / "inside").mkdir(parents=True)
    ),
    "a stage's folder a file": State("clean", file_instead),
    "a column's manifest empty": State("columns/llm-13b-l39/manifest.json", emptied),
    "a column's manifest missing": State("columns/llm-13b-l39/manifest.json", missing),
    "a column's tar cut": State("columns/llm-13b-l39/surd-00000.tar", cut),
    "a column's tar missing": State("columns/llm-13b-l39/surd-00000.tar", missing),
    "the columns' folder a file": State("columns", file_instead),
    "a column's folder a file": State("columns/llm-13b-l39", file_instead),
}
