"""Batches of one rank, read by any number of worker processes and resumable by one number."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from sur_adapter.data.batch import Batch, TrainingSample, collate
from sur_adapter.data.bucket_order import BucketOrder
from sur_adapter.data.captions import SIMPLE, draw_caption
from sur_adapter.data.sample_order import SampleOrder
from surd.schemas.errors import SurdError

if TYPE_CHECKING:
    from sur_adapter.data.shard_dataset import ShardDataset


class BatchLoader:
    """Batches of one rank: endless, or ``epochs`` passes over the data.

    Endless, every batch is of ``batch_size``: a batch at the end of an epoch continues with the next epoch, so that
    every rank always has a next batch, and every key comes exactly once per epoch over all ranks. With ``epochs``, all
    ranks get equally many batches, and since nothing is repeated or left out, batches of a rank may differ by one
    sample. Iterating again continues after the last batch taken. In a BucketOrder, which has the same batch size and
    epochs, the samples of a batch share a bucket.
    """

    def __init__(
        self,
        data: ShardDataset,
        order: SampleOrder | BucketOrder,
        batch_size: int,
        image_size: int | None,
        *,
        workers: int = 0,
        epochs: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.data, self.order, self.batch_size, self.epochs = data, order, batch_size, epochs
        self._dataset = _SpanDataset(copy(data) if workers else data, order, image_size)
        self._workers, self._pin_memory = workers, pin_memory
        self._taken = 0

    def __iter__(self) -> Iterator[Batch]:
        batches: DataLoader[Batch | SurdError] = DataLoader(
            self._dataset,
            sampler=self._spans(),  # any iterable serves
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
        )
        try:
            for (_, stop), batch in zip(self._spans(), batches, strict=False):
                if isinstance(batch, SurdError):
                    raise batch
                self._taken = stop
                yield batch
        finally:  # also if the consumer stops early: a copy of gigabytes may be running
            self._dataset.data.stop_fetching()

    def state_dict(self) -> dict[str, Any]:
        """Position of the stream after the last batch taken, however far workers have read ahead."""
        return {"samples": self._taken, **self._stream_settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the very next sample, with any number of workers and, but for buckets, any batch size.

        SurdError if the state is of other data, another seed, shuffle, number of ranks or choice of captions, or of
        batches in buckets that were of another size: the next sample is then undefined.
        """
        for name, value in ({"caption": None} | self._stream_settings()).items():
            if state.get(name) != value:
                raise SurdError(f"resume: the state's {name} is {state.get(name)!r}, this run's {value!r}; start again")
        self._taken = int(state["samples"])

    def _stream_settings(self) -> dict[str, Any]:
        order = self.order
        settings = {"seed": order.seed, "world": order.world, "shuffle": order.shuffle, "data": self.data.fingerprint}
        settings |= {"caption": self.data.caption} if self.data.caption != SIMPLE else {}
        return settings | ({"batch_size": order.batch_size} if isinstance(order, BucketOrder) else {})

    def _spans(self) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) sample of each of the rank's next batches."""
        if self.epochs is None:
            for start in count(self._taken, self.batch_size):
                yield start, start + self.batch_size
            return
        if isinstance(self.order, BucketOrder):
            yield from (span for span in self.order.spans() if span[0] >= self._taken)
            return
        lengths = self.order.lengths(self.epochs)
        length, batches = lengths[self.order.rank], -(-max(lengths) // self.batch_size)
        for number in range(batches):
            start, stop = number * length // batches, (number + 1) * length // batches
            if stop > self._taken:
                yield max(start, self._taken), stop


class _SpanDataset(Dataset[Batch | SurdError]):
    """A batch for every span of the stream. A SurdError is returned: raised, torch would wrap it in a traceback."""

    def __init__(self, data: ShardDataset, order: SampleOrder | BucketOrder, image_size: int | None) -> None:
        self.data, self.order, self.image_size = data, order, image_size

    def __getitem__(self, span: tuple[int, int]) -> Batch | SurdError:
        start, stop = span
        try:
            if self.data.remote:
                self.data.fetch_ahead(self.order.locations(start, stop + self.order.shuffle))
            return collate(
                [self._drawn(self.data.read(location), epoch) for epoch, location in self.order.by_epoch(start, stop)],
                self.image_size,
            )
        except SurdError as error:
            self.data.stop_fetching()  # here too: a worker process has copies of its own
            return error

    def _drawn(self, sample: TrainingSample, epoch: int) -> TrainingSample:
        if self.data.caption == SIMPLE:
            return sample
        text = draw_caption(
            self.data.caption, sample.simple, sample.captions, key=sample.key, seed=self.order.seed, epoch=epoch
        )
        return replace(sample, caption=text)


def _unchanged(batch: Any) -> Any:
    return batch
