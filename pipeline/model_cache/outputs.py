"""Outputs of models, kept in a build by the content they were made from, so that no verdict makes a model run again.

``model-cache/<kind>-<hash>/00012-<time>-<random>.parquet``: what partition 12 got from one model with one set of
settings. Files are only added, each whole or absent; only their own partition merges them when it has many. So threads,
processes and machines share the folder without a lock, on object stores too. All of it may be removed at any time: that
costs the time to compute it again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.model_cache.segments import (
    SECONDS,
    Output,
    SegmentIndex,
    joined,
    last_written,
    read_segment,
    records_of,
    segment_table,
    segments,
    unit_of,
    values,
    write_segment,
)
from surd.schemas import Pair, SurdError
from surd.schemas.paths import open_path

FOLDER = "model-cache"
LARGE = 2_000_000_000  # bytes that are worth a note
_SPACE = re.compile(r"(.+)-[0-9a-f]{16}")
_MOST_SEGMENTS = 4  # of one unit, before they are merged
_MOST_SPACES = 3  # of one kind, before the one that was written longest ago is removed
_MOST_NEIGHBOURS = 8  # other units' segments that a unit holds in memory, when records have moved between partitions


class Item(NamedTuple):
    """What a model is asked. ``key``: the hash of all that decides the output beside the space's settings; ``about``:
    sha256 of the pictures and texts that it is about, by which ``forget`` finds it."""

    key: bytes
    about: tuple[bytes, ...]


def item(*question: Any, about: Iterable[str] = ()) -> Item:
    """The item of a question, which is anything that JSON can hold; ``about``: as hex."""
    document = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return Item(
        hashlib.sha256(document.encode()).digest()[:16], tuple(bytes.fromhex(one) for one in sorted(set(about)))
    )


def picture_item(pair: Pair, *question: Any) -> Item:
    """The item of a question about a picture, by the sha256 of its file."""
    assert pair.sha256 is not None, "only fetched pairs are shown to models"
    return item(pair.sha256, *question, about=[pair.sha256])


def text_item(text: str) -> Item:
    """The item of a text of which one thing alone is asked."""
    return item(text, about=[text_hash(text)])


def text_hash(text: str) -> str:
    """What ``about`` and ``forget`` call a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class OutputCache:
    """The outputs that one unit of work reads and adds. Use it in a with block: what the block added is kept, also when
    an error ends it.

    ``records``: the keys of the unit's records, 16 hex digits each. ``root``: of the build.
    """

    def __init__(self, root: str, unit: int, records: Iterable[str]) -> None:
        # A Build of its own: the marker of a stage vouches for what the stage's Build writes, and not for this.
        self._build, self._unit = Build(root), unit
        self._records = [bytes.fromhex(key) for key in records]
        self._spaces: dict[str, Space] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for space in self._spaces.values():
            if error is None:
                space.close()
            else:  # which says more than that a disk is full
                with suppress(OSError, SurdError):
                    space.flush()

    def space(self, kind: str, *, version: int, by_key: bool = True, **settings: Any) -> Space:
        """The outputs of one kind (``caption``), model and settings. ``version``: of the code that asks; raise it when
        the same question gets another output.

        ``by_key``: an output is found whichever unit it is of, which costs each process 12 bytes of memory an output.
        Else only what units got that had a record of this one: for kinds of which a record has many.
        """
        document = json.dumps([version, settings], sort_keys=True)
        name = f"{kind}-{hashlib.sha256(document.encode()).hexdigest()[:16]}"
        if name not in self._spaces:
            folder = f"{FOLDER}/{name}"
            index = _index(self._build.root, folder, by_key)
            self._spaces[name] = Space(self._build, folder, self._unit, self._records, index, by_key, document)
        return self._spaces[name]


class Space:
    """The outputs of one kind, model and settings, as bytes; see OutputCache."""

    def __init__(
        self,
        build: Build,
        folder: str,
        unit: int,
        records: Sequence[bytes],
        index: SegmentIndex,
        by_key: bool,
        settings: str,
    ) -> None:
        self._build, self._folder, self._unit, self._records = build, folder, unit, records
        self._index, self._by_key, self._settings = index, by_key, settings
        self._known: dict[bytes, bytes] | None = None
        self._added: list[Output] = []
        self._written = time.monotonic()

    def outputs(self, items: Sequence[Item], compute: Callable[[list[int]], Iterable[bytes]]) -> list[bytes]:
        """The output of each item. ``compute(places)`` gives those of the items at ``places``, in order; of equal items
        the first place, and of known ones none."""
        found = self.read(items)
        first: dict[bytes, int] = {}
        for place, value in enumerate(found):
            if value is None:
                first.setdefault(items[place].key, place)
        places = list(first.values())
        for place, value in zip(places, compute(places) if places else (), strict=True):
            self.write(items[place], value)
        known = self._loaded()
        return [known[one.key] if value is None else value for one, value in zip(items, found, strict=True)]

    def read(self, items: Sequence[Item]) -> list[bytes | None]:
        """The known outputs; None for the others."""
        known = self._loaded()
        if self._by_key and (elsewhere := {one.key for one in items} - known.keys()):
            known = {**known, **self._index.read(self._build, elsewhere)}
        return [known.get(one.key) for one in items]

    def write(self, one: Item, value: bytes) -> None:
        """Keep an output; it is in the folder within a minute of work, or when the unit ends."""
        self._loaded()[one.key] = value
        self._added.append(Output(one.key, one.about, value))
        if time.monotonic() - self._written > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time as one segment."""
        self._written = time.monotonic()
        if self._added:
            if self._index.is_empty():
                _remove_oldest(self._build, self._folder)
            self._write(segment_table(self._added, self._settings, self._records))
            self._added = []

    def close(self) -> None:
        """Write what is left, and merge the unit's segments where they are many."""
        self.flush()
        names = self._index.of_unit(self._unit)
        if len(names) > _MOST_SEGMENTS:
            found = [read_segment(self._build, f"{self._folder}/{name}") for name in names]
            self._write(joined([table for table in found if table is not None]))
            for name in names:
                self._build.remove(f"{self._folder}/{name}")
                self._index.drop(name)

    def _loaded(self) -> dict[bytes, bytes]:
        """What the unit knows: what it or, for lack of its records there, others wrote before, and what was added."""
        if self._known is None:
            self._known = {}
            self._index.refresh(self._build)
            missing = set(self._records)
            for name in self._index.of_unit(self._unit):
                missing -= self._load(name)
            if missing and not self._by_key:
                neighbours = self._index.holding(self._build, missing)
                most = sorted(neighbours, key=lambda name: -len(neighbours[name]))
                for name in most[:_MOST_NEIGHBOURS]:
                    self._load(name)
        return self._known

    def _load(self, name: str) -> set[bytes]:
        """Take in a segment; returns the records that its unit had."""
        assert self._known is not None
        table = read_segment(self._build, f"{self._folder}/{name}")
        if table is None:
            self._index.drop(name)
            return set()
        self._known |= values(table)
        return set(records_of(table))

    def _write(self, table: pa.Table) -> None:
        self._index.add(write_segment(self._build, self._folder, self._unit, table), table)


@lru_cache(maxsize=64)
def _index(root: str, folder: str, by_key: bool) -> SegmentIndex:
    """The process's index of a space."""
    return SegmentIndex(folder, by_key)


def forget(root: str, contents: Collection[str]) -> None:
    """Remove all outputs that are about one of these pictures (sha256 of the file) or texts (``text_hash``)."""
    build, unwanted = Build(root), {bytes.fromhex(one) for one in contents}
    for folder in [f"{FOLDER}/{space}" for space in build.listdir(FOLDER)]:
        for name in segments(build, folder):
            table = read_segment(build, f"{folder}/{name}")
            if table is None:
                continue
            kept = [unwanted.isdisjoint(about) for about in table["about"].to_pylist()]
            if all(kept):
                continue
            if any(kept):
                write_segment(build, folder, unit_of(name), table.filter(pa.array(kept)))
            build.remove(f"{folder}/{name}")
    _index.cache_clear()


def bytes_kept(root: str) -> int:
    """The size of a build's model outputs."""
    filesystem, path = open_path(f"{root.rstrip('/')}/{FOLDER}")
    return int(filesystem.du(path)) if filesystem.exists(path) else 0


def size_notes(root: str) -> list[str]:
    """What to say of a build whose model outputs take much room; nothing otherwise."""
    kept = bytes_kept(root)
    if kept < LARGE:
        return []
    return [f"{FOLDER}/ holds {kept / 1e9:.1f} GB of model outputs for later runs; remove it if there will be none"]


def _remove_oldest(build: Build, folder: str) -> None:
    """Make room for a new space: of each kind the latest few stay, so that one can go back to another model."""
    kind = _SPACE.sub(r"\1", folder.rpartition("/")[2])
    others = [name for name in build.listdir(FOLDER) if _SPACE.fullmatch(name) and _SPACE.sub(r"\1", name) == kind]
    by_age = sorted(others, key=lambda name: last_written(build, f"{FOLDER}/{name}"))
    for name in by_age[: max(0, len(by_age) - _MOST_SPACES + 1)]:
        build.remove(f"{FOLDER}/{name}")
