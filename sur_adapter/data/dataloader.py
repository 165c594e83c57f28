"""Turns a dataset and an order into batches, read by any number of processes, resumed by one number."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import count
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from sur_adapter.data.batch import Batch, collate
from sur_adapter.data.sample_order import Order
from surd.schemas.errors import SurdError

if TYPE_CHECKING:
    from sur_adapter.data.shard_dataset import ShardDataset


class Loader:
    """Endless batches of one rank; with ``epochs``, every sample so many times and then the end.

    Endless, every batch is of ``batch_size``: one that an epoch's end falls into goes on with the next epoch, so that
    every rank always has a next batch, and every key comes exactly once an epoch over all ranks. With ``epochs``, all
    ranks get equally many batches, and since nothing is repeated or left out, batches of a rank may differ by one
    sample. Iterating again goes on where the last batch taken left off.
    """

    def __init__(
        self,
        data: ShardDataset,
        order: Order,
        batch_size: int,
        image_size: int | None,
        *,
        workers: int = 0,
        epochs: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.data, self.order, self.batch_size, self.epochs = data, order, batch_size, epochs
        self._batches = _Batches(copy(data) if workers else data, order, image_size)
        self._workers, self._pin_memory = workers, pin_memory
        self._taken = 0

    def __iter__(self) -> Iterator[Batch]:
        batches: DataLoader[Batch | SurdError] = DataLoader(
            self._batches,
            sampler=self._spans(),  # type: ignore[arg-type]  # any iterable serves
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
        finally:  # also when the rest is not wanted: a shard of gigabytes may be on its way
            self._batches.data.stop_fetching()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands after the last batch taken, whatever workers have read ahead."""
        return {"samples": self._taken, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the very next sample, with any number of workers and any batch size.

        SurdError when the state is of other data, another seed, shuffle or number of ranks: there the sample that
        comes next is not defined.
        """
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise SurdError(f"resume: the state's {name} is {state.get(name)!r}, this run's {mine!r}; start anew")
        self._taken = int(state["samples"])

    def _identity(self) -> dict[str, Any]:
        order = self.order
        return {"seed": order.seed, "world": order.world, "shuffle": order.shuffle, "data": self.data.fingerprint}

    def _spans(self) -> Iterator[tuple[int, int]]:
        """From which sample to which the rank's next batches go."""
        if self.epochs is None:
            for start in count(self._taken, self.batch_size):
                yield start, start + self.batch_size
            return
        lengths = self.order.lengths(self.epochs)
        own, batches = lengths[self.order.rank], -(-max(lengths) // self.batch_size)
        for number in range(batches):
            start, stop = number * own // batches, (number + 1) * own // batches
            if stop > self._taken:
                yield max(start, self._taken), stop


class _Batches(Dataset[Batch | SurdError]):
    """A batch for every span of the stream. A SurdError is returned: raised, torch would wrap it in a traceback."""

    def __init__(self, data: ShardDataset, order: Order, image_size: int | None) -> None:
        self.data, self.order, self.image_size = data, order, image_size

    def __getitem__(self, span: tuple[int, int]) -> Batch | SurdError:
        start, stop = span
        try:
            if self.data.remote:
                self.data.fetch_ahead(self.order.places(start, stop + self.order.shuffle))
            return collate([self.data.read(place) for place in self.order.places(start, stop)], self.image_size)
        except SurdError as error:
            self.data.stop_fetching()  # here too: a worker process has copies of its own
            return error


def _unchanged(batch: Any) -> Any:
    return batch
