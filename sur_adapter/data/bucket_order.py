"""Order of batches whose samples share an aspect-ratio bucket, a pure function of (seed, epoch, batch).

Samples come in the order of ``SampleOrder`` (of one rank), and each waits until its bucket has a whole batch: what any
loader with buckets does, here computed instead of remembered. Since a bucket has had ``epoch * count`` samples before
an epoch, it is known how many of them are still waiting, and so which sample of the epoch fills which batch. Nothing is
dropped: what is left of a bucket at the end of an epoch waits for the next, in which its batch is filled.

Batches are dealt out to the ranks in turn, so that any number of ranks reads the same batches, each as many. The price
is that every rank reads of every shard. The orders of three epochs are held in memory, 4 bytes a sample each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sur_adapter.data.sample_order import SampleOrder

_CACHED_EPOCHS = 3  # a batch may lie in two, and prefetching looks at the next
Located = tuple[int, tuple[int, int]]  # epoch, and (shard number, position in the shard)


@dataclass(frozen=True)
class _Epoch:
    """One epoch: its samples by bucket, and which bucket's how many-eth batch each of its batches is."""

    samples: npt.NDArray[np.integer[Any]]
    bucket: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]


class BucketOrder:
    """The stream of samples that one rank reads: every ``batch_size`` in a row from the start are of one bucket.

    ``digits`` has for every shard the bucket of each of its samples. A bucket with fewer samples than a batch has some
    of them several times in one batch, each time of another epoch. With ``epochs`` the stream ends, and what is left of
    a bucket is a shorter batch (one rank only).
    """

    def __init__(
        self,
        digits: Sequence[str],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle: int = 2048,
        epochs: int | None = None,
    ) -> None:
        if not 0 <= rank < world or batch_size < 1 or (epochs is not None and world > 1):
            raise ValueError(f"rank {rank} of {world}, batches of {batch_size}, {epochs} epochs")
        self.batch_size, self.seed, self.rank, self.world, self.shuffle = batch_size, seed, rank, world, shuffle
        self._order = SampleOrder([len(one) for one in digits], seed=seed, shuffle=shuffle)
        self._starts = np.cumsum(self._order.counts) - self._order.counts  # of each shard, in all samples
        written = np.frombuffer("".join(digits).encode(), np.uint8)
        _, numbers, counts = np.unique(written, return_inverse=True, return_counts=True)
        self._bucket = numbers.astype(np.uint8)
        self._counts: list[int] = counts.tolist()
        self._ends = np.cumsum(counts)  # of each bucket, in samples sorted by bucket
        self._stored = np.argsort(self._bucket, kind="stable").astype(np.int32 if len(numbers) < 1 << 31 else np.int64)
        self._epochs: dict[int, _Epoch] = {}
        self._last = epochs
        self._full = self._batches_before(epochs) if epochs is not None else None

    def locations(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Samples ``start`` to ``stop`` of the rank's stream; fewer if it ends before."""
        return [location for _, location in self.by_epoch(start, stop)]

    def by_epoch(self, start: int, stop: int) -> list[Located]:
        """The same, each with the number of its epoch."""
        samples: list[Located] = []
        whole = None if self._full is None else self._full * self.batch_size
        while start < stop and (whole is None or start < whole):
            number, within = divmod(start, self.batch_size)
            more = self._batch(number * self.world + self.rank)[within : within + stop - start]
            samples, start = samples + more, start + len(more)
        if whole is not None and start < stop:
            samples += [sample for rest in self._rests() for sample in rest][start - whole : stop - whole]
        return samples

    def spans(self) -> list[tuple[int, int]]:
        """First and last (exclusive) sample of each batch of a stream that ends."""
        assert self._full is not None, "only a stream of some epochs ends"
        ends = np.cumsum([self.batch_size] * self._full + [len(rest) for rest in self._rests()]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    @property
    def scarce(self) -> int:
        """How many buckets have fewer samples than a batch."""
        return sum(count < self.batch_size for count in self._counts)

    @property
    def buckets(self) -> int:
        """How many buckets have samples."""
        return len(self._counts)

    def _batches_before(self, epoch: int) -> int:
        """How many batches were filled in the epochs before this one."""
        return sum(epoch * count // self.batch_size for count in self._counts)

    def _epoch_of(self, batch: int) -> int:
        """The epoch in which a batch is filled."""
        epoch = batch * self.batch_size // self._order.total  # or later: never more batches than samples fill
        while self._batches_before(epoch + 1) <= batch:
            epoch += 1
        return epoch

    def _batch(self, batch: int) -> list[Located]:
        epoch = self._epoch_of(batch)
        at = batch - self._batches_before(epoch)
        bucket, number = int(self._epoch(epoch).bucket[at]), int(self._epoch(epoch).number[at])
        return self._of_bucket(bucket, number * self.batch_size, (number + 1) * self.batch_size)

    def _rests(self) -> list[list[Located]]:
        """What is left of each bucket when the stream ends."""
        assert self._last is not None
        rests = []
        for bucket, count in enumerate(self._counts):
            length = self._last * count
            if rest := length % self.batch_size:
                rests.append(self._of_bucket(bucket, length - rest, length))
        return rests

    def _of_bucket(self, bucket: int, start: int, stop: int) -> list[Located]:
        """Samples ``start`` to ``stop`` of a bucket's own stream, which is one epoch of it after the other."""
        count = self._counts[bucket]
        first = int(self._ends[bucket]) - count
        epochs, within = np.divmod(np.arange(start, stop), count)
        if count < self.batch_size:  # a batch has all of them, of many epochs, whose orders make no difference
            samples = self._stored[first + within]
        else:
            own = [self._epoch(epoch).samples[first + within[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
            samples = np.concatenate(own)
        # Where several shards start at one sample all but the last are empty.
        shards = np.searchsorted(self._starts, samples, side="right") - 1
        places = zip(shards.tolist(), (samples - self._starts[shards]).tolist(), strict=True)
        return list(zip(epochs.tolist(), places, strict=True))

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            shards, positions = self._order.epoch(epoch)
            line = self._starts[shards] + positions  # the samples in the order of the epoch
            place = np.argsort(self._bucket[line], kind="stable")  # by bucket, and where in that order
            begins, buckets, numbers = [], [], []
            for bucket, (count, end) in enumerate(zip(self._counts, self._ends.tolist(), strict=True)):
                before = epoch * count
                fill = np.arange(self.batch_size - 1 - before % self.batch_size, count, self.batch_size)
                begins.append(place[end - count + fill])
                buckets.append(np.full(len(fill), bucket))
                numbers.append((before + fill) // self.batch_size)
            by_place = np.argsort(np.concatenate(begins))
            if len(self._epochs) == _CACHED_EPOCHS:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = _Epoch(
                line[place].astype(self._stored.dtype),
                np.concatenate(buckets)[by_place],
                np.concatenate(numbers)[by_place],
            )
        return self._epochs[epoch]
