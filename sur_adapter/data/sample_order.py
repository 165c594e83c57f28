"""Order of samples as a pure function of (seed, epoch, rank), so that resuming needs one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CACHED_BLOCKS = 3  # a batch may lie in two, and prefetching looks at a third


class SampleOrder:
    """The endless stream of samples one rank reads, as (shard number, position in the shard).

    An epoch concatenates its shards, permuted by (seed, epoch), and cuts the sequence of samples into ``world``
    slices that differ by one sample at most. A rank takes one of them, so that ranks share no sample and, but for
    the shards at the cuts, no shard. Slices rotate from epoch to epoch: after ``world`` epochs every rank has
    read exactly as many samples. Within a slice, every ``shuffle`` samples in a row are permuted.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, rank: int = 0, world: int = 1, shuffle: int = 2048) -> None:
        if not (0 <= rank < world and shuffle > 0 and seed >= 0):
            raise ValueError(f"rank {rank} of {world}, shuffle {shuffle}, seed {seed}")
        self.counts = np.asarray(counts, np.int64)
        self.total = int(self.counts.sum())
        self.seed, self.rank, self.world, self.shuffle = seed, rank, world, shuffle
        self._blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def locations(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Samples ``start`` to ``stop`` of the stream."""
        return [location for _, location in self.by_epoch(start, stop)]

    def by_epoch(self, start: int, stop: int) -> list[tuple[int, tuple[int, int]]]:
        """The same, each with the number of its epoch."""
        samples: list[tuple[int, tuple[int, int]]] = []
        epoch, taken = self._epoch_at(start)
        while len(samples) < stop - start:
            first, last = self._rank_slice(epoch, self.rank)
            while taken < last - first and len(samples) < stop - start:
                number, within = divmod(taken, self.shuffle)
                more = self._shuffled(epoch, number)[within : within + stop - start - len(samples)]
                samples += [(epoch, location) for location in more]
                taken += len(more)
            epoch, taken = epoch + 1, 0
        return samples

    def epoch(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Shard number and position in the shard of all samples that the rank reads in one epoch."""
        first, last = self._rank_slice(epoch, self.rank)
        blocks = [self._line(epoch, number) for number in range(-(-(last - first) // self.shuffle))]
        return self._places(epoch, np.concatenate(blocks))

    def lengths(self, epochs: int) -> list[int]:
        """How many samples each rank reads in the first ``epochs`` epochs; they differ by one at most."""
        slices = ([self._rank_slice(epoch, rank) for epoch in range(epochs)] for rank in range(self.world))
        return [sum(last - first for first, last in one) for one in slices]

    def _rank_slice(self, epoch: int, rank: int) -> tuple[int, int]:
        """Start and end of a rank's slice of an epoch's samples."""
        turn = (rank + epoch) % self.world
        return turn * self.total // self.world, (turn + 1) * self.total // self.world

    def _epoch_at(self, position: int) -> tuple[int, int]:
        """The epoch of a sample of the stream, and how many of the rank's samples of that epoch come before it."""
        rounds, rest = divmod(position, self.total)
        epoch = rounds * self.world
        while True:
            first, last = self._rank_slice(epoch, self.rank)
            if rest < last - first:
                return epoch, rest
            epoch, rest = epoch + 1, rest - (last - first)

    def _shuffled(self, epoch: int, number: int) -> list[tuple[int, int]]:
        """The ``number``-th ``shuffle`` samples of the rank's slice, permuted."""
        if (epoch, number) not in self._blocks:
            shards, positions = self._places(epoch, self._line(epoch, number))
            if len(self._blocks) == CACHED_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[epoch, number] = list(zip(shards.tolist(), positions.tolist(), strict=True))
        return self._blocks[epoch, number]

    def _line(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """The same as numbers in the sequence of samples of the epoch."""
        first, last = self._rank_slice(epoch, self.rank)
        begin = first + number * self.shuffle
        # + 1: NumPy ignores a trailing zero, and [seed, epoch] is the permutation of the shards.
        random = np.random.default_rng([self.seed, epoch, begin + 1])
        return begin + random.permutation(min(self.shuffle, last - begin))

    def _places(self, epoch: int, line: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Shard number and position in the shard of numbers in the sequence of samples of an epoch."""
        shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
        ends = np.cumsum(self.counts[shards])
        slot = np.searchsorted(ends, line, side="right")
        return shards[slot], line - ends[slot] + self.counts[shards[slot]]
