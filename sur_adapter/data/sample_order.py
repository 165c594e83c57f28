"""Turns (seed, epoch, rank) into the order of samples: a pure function, so that resuming needs one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KEPT = 3  # blocks: a batch may lie in two, and a third is looked at ahead


class Order:
    """The endless stream of samples one rank reads, as (shard number, position in the shard).

    An epoch strings its shards, permuted by (seed, epoch), into one line of samples and cuts it into ``world``
    stretches that differ by one sample at most. A rank takes one of them, so that ranks share no sample and, but for
    the shards at the cuts, no shard. Stretches go round from epoch to epoch: after ``world`` epochs every rank has
    read exactly as many samples. Within a stretch, every ``shuffle`` samples in a row are permuted.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, rank: int = 0, world: int = 1, shuffle: int = 2048) -> None:
        if not (0 <= rank < world and shuffle > 0 and seed >= 0):
            raise ValueError(f"rank {rank} of {world}, shuffle {shuffle}, seed {seed}")
        self.counts = np.asarray(counts, np.int64)
        self.total = int(self.counts.sum())
        self.seed, self.rank, self.world, self.shuffle = seed, rank, world, shuffle
        self._blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def places(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Samples ``start`` to ``stop`` of the stream."""
        found: list[tuple[int, int]] = []
        epoch, taken = self._epoch_at(start)
        while len(found) < stop - start:
            first, last = self._stretch(epoch, self.rank)
            while taken < last - first and len(found) < stop - start:
                number, within = divmod(taken, self.shuffle)
                more = self._shuffled(epoch, number)[within : within + stop - start - len(found)]
                found += more
                taken += len(more)
            epoch, taken = epoch + 1, 0
        return found

    def lengths(self, epochs: int) -> list[int]:
        """How many samples each rank reads in the first ``epochs`` epochs; they differ by one at most."""
        stretches = ([self._stretch(epoch, rank) for epoch in range(epochs)] for rank in range(self.world))
        return [sum(last - first for first, last in one) for one in stretches]

    def _stretch(self, epoch: int, rank: int) -> tuple[int, int]:
        """Where a rank's part of an epoch's line of samples begins and ends."""
        turn = (rank + epoch) % self.world
        return turn * self.total // self.world, (turn + 1) * self.total // self.world

    def _epoch_at(self, position: int) -> tuple[int, int]:
        """The epoch of a sample of the stream, and how many of the rank's samples of that epoch come before it."""
        rounds, rest = divmod(position, self.total)
        epoch = rounds * self.world
        while True:
            first, last = self._stretch(epoch, self.rank)
            if rest < last - first:
                return epoch, rest
            epoch, rest = epoch + 1, rest - (last - first)

    def _shuffled(self, epoch: int, number: int) -> list[tuple[int, int]]:
        """The ``number``-th ``shuffle`` samples of the rank's stretch, permuted."""
        if (epoch, number) not in self._blocks:
            first, last = self._stretch(epoch, self.rank)
            begin = first + number * self.shuffle
            # + 1: NumPy takes a trailing zero for none, and [seed, epoch] is the permutation of the shards.
            random = np.random.default_rng([self.seed, epoch, begin + 1])
            line = begin + random.permutation(min(self.shuffle, last - begin))
            shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
            ends = np.cumsum(self.counts[shards])
            slot = np.searchsorted(ends, line, side="right")
            position = line - ends[slot] + self.counts[shards[slot]]
            if len(self._blocks) == KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[epoch, number] = list(zip(shards[slot].tolist(), position.tolist(), strict=True))
        return self._blocks[epoch, number]
