"""What a column has of a shard so far: the arrays of prompts and pictures that are as they were need no model.

``embed/<column>/items-NNNNN.parquet`` says from which prompts or pictures the arrays of a shard's tars were made. It
may be removed at any time: that costs the time to compute them again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import pyarrow as pa

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import marker_folder
from surd.schemas.shard_format.tar import InvalidTar, TarReader

_ABOUT = b"surd.items"
_NAME = re.compile(r"items-\d+\.parquet")


def items_file(column: str, number: int) -> str:
    """Where it is noted what the arrays of one shard were made from."""
    return f"{marker_folder(column)}/items-{number:05d}.parquet"


def drop_items(build: Build, column: str, shards: int) -> None:
    """Remove what was noted of shards that are no more."""
    there = {f"{marker_folder(column)}/{name}" for name in build.listdir(marker_folder(column)) if _NAME.match(name)}
    for file in there - {items_file(column, number) for number in range(shards)}:
        build.remove(file)


def item_hash(item: str) -> str:
    """Of a prompt, or of what identifies a picture."""
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def note_items(
    build: Build, column: str, number: int, basis: Mapping[str, object], tars: Mapping[str, str],
    items: Mapping[str, str],
) -> None:  # fmt: skip
    """Note what was written. ``tars``: file -> sha256; ``items``: key -> hash of what its arrays were made from."""
    table = pa.table({"key": list(items), "item": list(items.values())})
    about = json.dumps({"basis": basis, "tars": tars}, sort_keys=True)
    # A Build of its own: no marker vouches for this file.
    Build(build.root).write_table(items_file(column, number), table.replace_schema_metadata({_ABOUT: about}))


class ArraysSoFar:
    """The tars of one shard of a column as they are: ``items`` are hashes of what its arrays were made from.

    None where the column was made otherwise (``basis``), or where the tars are not those that were noted.
    """

    def __init__(self, build: Build, column: str, number: int, basis: Mapping[str, object]) -> None:
        self._build, self._tars = build, list[str]()
        self._item_of: dict[str, str] = {}
        with suppress(DamagedFile, ValueError, LookupError, InvalidTar, OSError):
            file = items_file(column, number)
            if not build.exists(file):
                return
            table = build.read_table(file)
            about = json.loads((table.schema.metadata or {})[_ABOUT])
            tars = dict(about["tars"])
            if about["basis"] == json.loads(json.dumps(basis)) and all(_sha256(build, t) == s for t, s in tars.items()):
                self._tars = list(tars)
                self._item_of = dict(zip(table["key"].to_pylist(), table["item"].to_pylist(), strict=True))

    @property
    def items(self) -> set[str]:
        return set(self._item_of.values())

    def members(self) -> Iterator[tuple[str, str, bytes]]:
        """Hash of the item, suffix and bytes of every array; once an item."""
        seen: dict[str, str] = {}
        for file in self._tars:
            with self._build.open(file) as raw:
                for member in TarReader(raw, self._build.size(file)):
                    key, _, suffix = member.name.partition(".")
                    item = self._item_of.get(key)
                    if item and seen.setdefault(item, key) == key:
                        yield item, suffix, member.data


def reusable(so_far: Sequence[ArraysSoFar]) -> set[str]:
    """Items of which every column has the arrays."""
    return set.intersection(*(one.items for one in so_far)) if so_far else set()


def _sha256(build: Build, file: str) -> str:
    with build.open(file) as raw:
        reader = TarReader(raw, build.size(file))
        for _ in reader:
            pass
    return reader.sha256
