"""How many rows a model computes at once: as many as are asked for, and fewer once memory did not suffice for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from surd.schemas import SurdError

log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")


class BatchLimit:
    """The limit of one loaded model, found out by its failures.

    ``model``: what messages call it; ``smaller``: what a user may do where one row is too much.
    """

    def __init__(self, model: str, smaller: str = "name a smaller model, or another device") -> None:
        self._model, self._smaller = model, smaller
        self._most: int | None = None

    def run(self, compute: Callable[[Sequence[S]], T], rows: Sequence[S]) -> list[T]:
        """``compute`` on all rows, in batches that fit the memory: its results in order, usually one.

        A batch that does not fit is halved, and later ones are no larger than what was left of it. Raises SurdError
        when a single row does not fit.
        """
        results: list[T] = []
        at = 0
        while at < len(rows):
            batch = rows[at : at + (self._most or len(rows))]
            try:
                results.append(compute(batch))
                at += len(batch)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Behind the except block: until its end the exception holds the tensors of the batch.
            self._halve(len(batch))
        return results

    def _halve(self, rows: int) -> None:
        if rows == 1:
            raise SurdError(f"{self._model} does not fit into memory with a batch of one; {self._smaller}")
        first, self._most = self._most is None, rows // 2
        if first:
            log.warning("%s: memory does not suffice for a batch of %d; going on with smaller ones", self._model, rows)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, or of the machine, where torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
