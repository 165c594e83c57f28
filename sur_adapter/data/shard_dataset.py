"""Map-style dataset over a build's shards and columns: a seeded, endless stream of batches, resumable by one number.

Which sample comes when is a pure function of (seed, epoch, rank) (``sample_order.py``), and a sample is one read at a
known offset (``tar_index.py``). So the state of a run is one number, worker processes have none, and the samples do not
depend on the number of workers. That is why this uses torch's own ``DataLoader`` and not:

- ``webdataset``, which reads tars from front to back: it cannot start in the middle, its shuffle buffer cannot be
  saved, members that a run does not need are read too, and since whole shards go to the workers, ranks run out at
  different times. (The tars are plain webdataset tars: it reads them too.)
- ``torchdata``'s ``StatefulDataLoader``, which resumes from the state of every worker and so refuses another number of
  workers.

    data = ShardDataset("data/demo/shards/surd-{00000..00003}.tar", columns=["llm"])
    for batch in data.loader(batch_size=8, image_size=512, seed=0):
        ...
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sur_adapter.data.batch import Batch, TrainingSample, batch_field, collate
from sur_adapter.data.bucket_order import BucketOrder
from sur_adapter.data.captions import SIMPLE, CaptionCounts
from sur_adapter.data.column_arrays import to_float
from sur_adapter.data.dataloader import BatchLoader
from sur_adapter.data.dataset_layout import DatasetLayout
from sur_adapter.data.prompt_index import PromptIndex
from sur_adapter.data.sample_order import SampleOrder
from sur_adapter.data.shard_cache import ShardCache, local_path
from sur_adapter.data.shard_reader import ColumnReader, EmptyPrompt, IndexTexts, Shard, TarTexts, Texts
from sur_adapter.data.tar_index import TarIndex
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest, ShardInfo

SHUFFLE = 2048
OPEN = {"_open", "_requested", "_pool", "_stop", "_index"}  # belongs to one process
MOST_OPEN = 64  # shards; each holds an open file for itself and one for each column

__all__ = ["Batch", "BatchLoader", "ShardDataset", "TrainingSample"]


class ShardDataset:
    """The samples of the shards a pattern names, with the requested columns beside them.

    ``pattern`` is a path or fsspec URL in which braces name a range ("dir/shards/surd-{00000..00003}.tar"), or
    a layout that is open already.
    ``columns`` are names of columns, or kinds if the build has one column of that kind: llm, latents, clip. Without
    ``image`` no image byte is read, and where ``index.parquet`` has the prompts, no shard is opened either. Shards
    that are not local are copied into ``cache`` (default: the user's cache folder), at most ``cache_bytes`` of them.
    ``caption`` chooses the texts of ``Batch.captions`` (see ``draw_caption``); unless it is simple, the index is read
    at once, for ``caption_counts``.

    Nothing is opened before it is needed. Raises SurdError naming the file, and the member if there is one, when
    something is missing, damaged, hostile or not what its manifest describes.
    """

    def __init__(
        self,
        pattern: str | DatasetLayout,
        *,
        columns: Sequence[str] = (),
        image: bool = True,
        caption: str = SIMPLE,
        shuffle: int = SHUFFLE,
        cache: Path | None = None,
        cache_bytes: int = 64 << 30,
    ) -> None:
        self.layout = pattern if isinstance(pattern, DatasetLayout) else DatasetLayout(pattern)
        self.shards, self.manifest = self.layout.shards, self.layout.manifest
        self.image, self.caption, self.shuffle = image, caption, shuffle
        self.reads: dict[str, ColumnManifest] = {}  # part of the batch -> column
        for name in columns:
            manifest = self._find(name)
            if (field := batch_field(manifest)) in self.reads:
                raise SurdError(f"columns: {self.reads[field].column} and {manifest.column} are both {field}; name one")
            self.reads[field] = manifest
        self._cache = ShardCache(cache, cache_bytes)
        self._tars = {field: self.layout.column_tars(manifest) for field, manifest in self.reads.items()}
        self._digits = {field: manifest.bucket_digits for field, manifest in self.reads.items() if manifest.buckets}
        # A sample waits for others of its bucket, so a batch may be of shards far apart.
        self._most_open = MOST_OPEN if self._digits else min(MOST_OPEN, 2 + -(-shuffle * len(self.shards) // len(self)))
        self._reset()
        self.caption_counts = self._count_captions() if caption != SIMPLE else None

    def __len__(self) -> int:
        return sum(info.count for info in self.layout.infos)

    @cached_property
    def columns(self) -> dict[str, ColumnManifest]:
        """Every column beside the shards, by name, whether it is read or not."""
        return self.layout.columns()

    @cached_property
    def remote(self) -> bool:
        """Whether shards are copied into the cache before they are read."""
        return local_path(self.layout.root) is None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the hashes of every tar this dataset reads, so that a run resumes only on its own data."""
        tars = [info for _, info in chain.from_iterable(self._tars.values())]
        tars += [manifest.empty for manifest in self.reads.values() if manifest.empty]
        return hashlib.sha256(" ".join(info.sha256 for info in [*self.layout.infos, *tars]).encode()).hexdigest()

    def loader(
        self,
        *,
        batch_size: int,
        seed: int,
        image_size: int | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        epochs: int | None = None,
        pin_memory: bool = False,
    ) -> BatchLoader:
        """Batches of this rank, decoded by ``workers`` processes (0: by this one). See BatchLoader.

        If latents in buckets are read, the samples of a batch share one.
        """
        order: SampleOrder | BucketOrder = self.order(seed=seed, rank=rank, world=world)
        if self._digits:
            order = self.bucket_order(batch_size=batch_size, seed=seed, rank=rank, world=world, epochs=epochs)
        return BatchLoader(self, order, batch_size, image_size, workers=workers, epochs=epochs, pin_memory=pin_memory)

    def order(self, *, seed: int, rank: int = 0, world: int = 1) -> SampleOrder:
        """The order in which a rank reads the samples."""
        counts = [info.count for info in self.layout.infos]
        return SampleOrder(counts, seed=seed, rank=rank, world=world, shuffle=self.shuffle)

    def bucket_order(
        self, *, batch_size: int, seed: int, rank: int = 0, world: int = 1, epochs: int | None = None
    ) -> BucketOrder:
        """The order in which a rank reads the samples if latents in buckets are read."""
        (by_tar,) = self._digits.values()
        digits = [by_tar[info.name] for info in self.layout.infos]
        return BucketOrder(digits, batch_size, seed=seed, rank=rank, world=world, shuffle=self.shuffle, epochs=epochs)

    def read(self, location: tuple[int, int]) -> TrainingSample:
        """The sample at (shard number, position in the shard)."""
        number, index = location
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = self._shard(number)
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)[1].close()
        return self._open[number].read(index)

    def fetch_ahead(self, locations: Sequence[tuple[int, int]]) -> None:
        """Start copying the shards of samples that will be read soon."""
        for number in dict.fromkeys(number for number, _ in locations):
            if number not in self._open and number not in self._requested:
                self._requested.add(number)
                for url, info in self._files(number):
                    self._pool.submit(self._cache.fetch, url, info, self._stop)  # an error is raised again by read

    def stop_fetching(self) -> None:
        """Cancel the copies that ``fetch_ahead`` started and remove partial files; they can be requested again."""
        if "_pool" not in self.__dict__:
            return  # none was started
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        del self._pool, self._stop  # the next copies have their own
        self._requested.clear()

    def llm_statistics(self, most: int = 4096) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [llm_width] over the LLM column's first ``most`` samples, in shard order.

        Of a token-level column, over all their tokens. Raises SurdError naming a member with NaN or infinity: in the
        mean it would spoil every batch, and its own batch may come much later.
        """
        manifest = self.reads["llm"]
        total = squares = torch.zeros(manifest.width, dtype=torch.float64)
        vectors = samples = 0
        for url, info in self._tars["llm"]:
            column = ColumnReader("llm", manifest, self._tar(url, info))
            for index in range(min(info.count, most - samples)):
                values = to_float(column.read(index)["npy"].copy()).double().reshape(-1, manifest.width)
                if not bool(values.isfinite().all()):
                    where = f"{column.tar.name}: member {column.tar.keys[index]}.npy"
                    raise SurdError(f"{where} holds NaN or infinity; embed again")
                total, squares = total + values.sum(0), squares + values.square().sum(0)
                vectors += len(values)
            column.tar.close()
            samples += info.count
            if samples >= most:
                break
        mean = total / vectors
        return mean.float(), (squares / vectors - mean.square()).clamp(min=0).sqrt().float().clamp(min=1e-6)

    def empty_prompt(self) -> Batch:
        """The empty prompt as stored beside the column of simple prompts' text states, if its manifest names one."""
        manifest = self.reads["clip_simple"]
        assert manifest.empty is not None
        column = ColumnReader(
            "clip_simple", manifest, self._tar(self.layout.empty_prompt_tar(manifest), manifest.empty)
        )
        with closing(column.tar):
            return collate([Shard(EmptyPrompt(column.tar.name), [column]).read(0)])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: a copy, also one in another process, opens its own."""
        return {name: value for name, value in self.__dict__.items() if name not in OPEN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._requested: set[int] = set()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=8)

    @cached_property
    def _stop(self) -> threading.Event:
        return threading.Event()

    @cached_property
    def _index(self) -> PromptIndex:
        return PromptIndex(self.layout.root)

    def _count_captions(self) -> CaptionCounts:
        """How many samples have the captions asked for. SurdError if none has."""
        index = self._index
        counts = CaptionCounts.of(self.caption, index.captioned({info.name for info in self.layout.infos}))
        counts.check(index.name)
        return counts

    def _find(self, name: str) -> ColumnManifest:
        """The column of that name, or the only one of that kind."""
        if "/" not in name:
            try:
                return self.layout.column(name)
            except FileNotFoundError:
                pass
        matches = [manifest for manifest in self.columns.values() if manifest.kind == name]
        if len(matches) == 1:
            return matches[0]
        problem = "has several columns of that kind" if matches else "has no such column"
        present = ", ".join(self.columns) or "none"
        raise SurdError(f"columns: {name!r}, but {self.layout.build} {problem} (present: {present}); name one of them")

    def _files(self, number: int) -> list[tuple[str, ShardInfo]]:
        """The tars a shard's samples are read from."""
        own = [] if self._in_index(number) else [(self.shards[number], self.layout.infos[number])]
        return own + [tars[number] for tars in self._tars.values()]

    def _in_index(self, number: int) -> bool:
        return not self.image and self.layout.infos[number].name in self._index.groups

    def _tar(self, url: str, info: ShardInfo) -> TarIndex:
        return TarIndex(self._cache.open(url, info), url, info)

    def _shard(self, number: int) -> Shard:
        self._requested.discard(number)
        url, info = self.shards[number], self.layout.infos[number]
        texts: Texts
        if self._in_index(number):
            texts = IndexTexts(self._index, info, captions=self.caption != SIMPLE)
        else:
            texts = TarTexts(self._tar(url, info), image=self.image, captions=self.caption != SIMPLE)
            if not self.remote:  # a copy was verified by its sha256
                self._index.check(info.name, url, texts.keys)
        columns = []
        for field, tars in self._tars.items():
            digits = self._digits.get(field, {}).get(info.name, "")
            columns.append(ColumnReader(field, self.reads[field], self._tar(*tars[number]), digits))
        return Shard(texts, columns)
