"""Prompts of a shard from ``shards/index.parquet``, so that a run without images opens no shard."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from surd.schemas.errors import SurdError, one_line
from surd.schemas.manifest import ShardInfo
from surd.schemas.paths import open_path

COLUMNS = ["key", "simple", "complex"]


class PromptIndex:
    """The index of the shards in a folder, as far as it can be read shard by shard.

    ``groups`` maps a shard to its row group, and holds it only when that row group has no other shard's rows: else
    one shard's prompts would cost reading the whole index. ``bounds`` has the least and greatest key of such a shard.
    """

    def __init__(self, root: str) -> None:
        self.name = f"{root}/index.parquet"
        self.groups: dict[str, int] = {}
        self.bounds: dict[str, tuple[str, str]] = {}
        try:
            self._open()
        except FileNotFoundError:
            return  # the shards hold the prompts too
        except Exception as error:  # every protocol raises its own, and Arrow on damage all sorts
            reason = one_line(error)
            remedy = "surd verify BUILD --repair makes it again; without it the prompts are read from the shards"
            raise SurdError(f"{self.name}: cannot be read ({reason}); {remedy}") from error

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
