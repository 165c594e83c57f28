"""Prompts of a shard from ``shards/index.parquet``, so that a run without images opens no shard."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sur_adapter.data.captions import NamedTexts
from surd.schemas.errors import SurdError, one_line
from surd.schemas.manifest import ShardInfo
from surd.schemas.paths import open_path
from surd.schemas.shard_format.captions import MAX_CAPTIONS

COLUMNS = ["key", "simple", "complex"]
CAPTIONS = "captions"  # a list of Caption; only builds with several captions a sample have this column
REMEDY = "surd verify BUILD --repair makes it again"
_ROWS = 4096


class PromptIndex:
    """The index of the shards in a folder, as far as it can be read shard by shard.

    ``groups`` maps a shard to its row group, and holds it only when that row group has no other shard's rows: else
    one shard's prompts would cost reading the whole index. ``bounds`` has the least and greatest key of such a shard.
    """

    def __init__(self, root: str) -> None:
        self.name = f"{root}/index.parquet"
        self.groups: dict[str, int] = {}
        self.bounds: dict[str, tuple[str, str]] = {}
        self._table: Any = None
        try:
            self._open()
        except FileNotFoundError:
            return  # the shards hold the prompts too
        except Exception as error:  # every protocol raises its own, and Arrow on damage all sorts
            reason = one_line(error)
            raise SurdError(
                f"{self.name}: cannot be read ({reason}); {REMEDY}; without it the prompts are read from the shards"
            ) from error

    def captions(self, shard: ShardInfo) -> list[NamedTexts]:
        """The captions of a shard's samples, in order."""
        with self._damage(f"the captions of {shard.name}"):
            rows = self._table.read_row_group(self.groups[shard.name], columns=self._caption_columns, use_threads=False)
            return _named_texts(rows[CAPTIONS])

    def captioned(self, shards: Collection[str]) -> Iterator[tuple[str, NamedTexts]]:
        """Simple prompt and captions of every sample of the shards of those names; nothing if it lists no captions.

        SurdError if there is no index: the shards themselves would have to be read from end to end.
        """
        if self._table is None:
            raise SurdError(f"{self.name}: is missing, and only it lists the captions of every sample; {REMEDY}")
        if CAPTIONS not in self._table.schema_arrow.names:
            return
        with self._damage("its captions"):
            columns = ["shard", "simple", *self._caption_columns]
            for rows in self._table.iter_batches(_ROWS, columns=columns, use_threads=False):
                names, simple = (rows.column(name).to_pylist() for name in ("shard", "simple"))
                for name, text, captions in zip(names, simple, _named_texts(rows.column(CAPTIONS)), strict=True):
                    if name in shards:
                        yield text or "", captions

    @property
    def _caption_columns(self) -> list[str]:
        """The paths in Parquet of names and texts of captions."""
        schema = self._table.schema
        paths = [schema.column(number).path for number in range(len(schema))]
        paths = [path for path in paths if path.split(".")[0] == CAPTIONS and path.split(".")[-1] in ("name", "text")]
        if len(paths) != 2:
            raise ValueError("they are not lists of name and text")
        return paths

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, LookupError, pa.ArrowException) as error:
            raise SurdError(f"{self.name}: {what} cannot be read ({one_line(error)}); {REMEDY}") from error

    def _open(self) -> None:
        """Read the footer: which row group belongs to which shard."""
        filesystem, path = open_path(self.name)
        file = filesystem.open(path, "rb")
        # Some servers only send whole files.
        self._table = pq.ParquetFile(file if file.seekable() else pa.BufferReader(file.read()), pre_buffer=False)
        names = self._table.schema_arrow.names
        if not {"shard", *COLUMNS} <= set(names):
            return
        for number in range(self._table.num_row_groups):
            columns = self._table.metadata.row_group(number)
            shard, key = (columns.column(names.index(name)).statistics for name in ("shard", "key"))
            if shard and key and shard.has_min_max and key.has_min_max and shard.min == shard.max:
                self.groups[shard.min] = number
                self.bounds[shard.min] = (key.min, key.max)

    def check(self, shard: str, tar: str, keys: list[str]) -> None:
        """SurdError if a tar has the name of a shard, but keys of another."""
        if shard not in self.bounds:
            return
        for key, expected in zip((min(keys, default=None), max(keys, default=None)), self.bounds[shard], strict=True):
            if key != expected:
                raise SurdError(f"{tar}: sample {key} where {self.name} has {expected}; it is another shard")

    def read(self, shard: ShardInfo) -> list[list[str]]:
        """Keys, simple and complex prompts of a shard, in order."""
        try:
            # Without Arrow's own threads: they do not outlive a fork.
            rows = self._table.read_row_group(self.groups[shard.name], columns=COLUMNS, use_threads=False)
            columns = [rows[name].to_pylist() for name in COLUMNS]
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: text that is not UTF-8
            reason = one_line(error)
            raise SurdError(f"{self.name}: the rows of {shard.name} are damaged ({reason}); pack again") from error
        if len(rows) != shard.count or any(rows[name].null_count for name in COLUMNS):
            raise SurdError(f"{self.name}: has {len(rows)} rows of {shard.name}, not {shard.count}; pack again")
        return columns


def _named_texts(column: pa.ChunkedArray | pa.Array) -> list[NamedTexts]:
    """Name and text of each row's captions. Raises ValueError where one has none, or a row has too many."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = [length or 0 for length in pc.list_value_length(lists).to_pylist()]
    captions = lists.flatten()
    names, texts = (captions.field(name).to_pylist() for name in ("name", "text"))
    if any(not isinstance(value, str) for value in (*names, *texts)):
        raise ValueError("a caption has no name or no text")
    if max(lengths, default=0) > MAX_CAPTIONS:
        raise ValueError(f"a sample has more than {MAX_CAPTIONS} captions")
    pairs = iter(zip(names, texts, strict=True))
    return [tuple(islice(pairs, length)) for length in lengths]
