"""Numbers and names that a report counts over a build, on disk: for its histograms and its rankings.

Every number is kept, so that a median is that of all, and every name with its counts; sorted and added up by DuckDB.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.pipeline.tables import Tables, TableWriter

Floats = npt.NDArray[np.float64]
_NUMBERS = pa.schema([("series", pa.string()), ("value", pa.float64())])
_NAMES = pa.schema([("kind", pa.string()), ("name", pa.string()), ("count", pa.int64())])


class Series:
    """Numbers in ascending order, of which some thousand are in memory at once."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables, self._name = tables, name
        self._count = tables.count(name)

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[Floats]:
        """All of them."""
        for batch in self._tables.batches(self._name):
            yield batch["value"].to_numpy()

    def at(self, places: Sequence[int]) -> list[float]:
        """The numbers at these places, which ascend."""
        numbers: list[float] = []
        start = 0
        for batch in self.batches():
            while len(numbers) < len(places) and places[len(numbers)] < start + len(batch):
                numbers.append(float(batch[places[len(numbers)] - start]))
            start += len(batch)
        return numbers

    def quantile(self, share: float) -> float:
        """Of all numbers, interpolated between the two next to it, as by ``numpy.quantile``."""
        place = share * (self._count - 1)
        low = math.floor(place)
        return float(np.quantile(self.at([low, min(low + 1, self._count - 1)]), place - low))

    def median(self) -> float:
        """The number in the middle, or the mean of the two."""
        return float(np.mean(self.at(sorted({(self._count - 1) // 2, self._count // 2}))))


@dataclass(frozen=True)
class Ranking:
    """The most frequent names with their counts, most frequent first, and how many names there are."""

    top: list[tuple[str, int]]
    total: int


class Tallies:
    """What was added to them, to be asked after the block of ``tallying``."""

    def __init__(self, tables: Tables, numbers: TableWriter, names: TableWriter) -> None:
        self._tables, self._numbers, self._names = tables, numbers, names

    def add(self, series: str, values: Iterable[float]) -> None:
        """Add numbers to a series."""
        for value in values:
            self._numbers.add({"series": series, "value": value})

    def count(self, kind: str, names: Counter[str]) -> None:
        """Add counts of names of a kind."""
        for name, count in names.items():
            self._names.add({"kind": kind, "name": name, "count": count})

    def series(self, *names: str) -> Series:
        """The numbers of one series or of several together."""
        table = "numbers_" + "_".join(names)
        chosen = ", ".join(f"'{name}'" for name in names)
        self._tables.make(table, f"SELECT value FROM numbers WHERE series IN ({chosen}) ORDER BY value")
        return Series(self._tables, table)

    def ranking(self, kind: str, limit: int) -> Ranking:
        """The most frequent names of a kind; of equals the first in the alphabet."""
        table = f"names_{kind}"
        query = f"SELECT name, sum(count)::BIGINT AS count FROM names WHERE kind = '{kind}' GROUP BY name"
        self._tables.make(table, query)
        return ranked(((row["name"], row["count"]) for row in self._tables.rows(table)), limit)


def ranked(counts: Iterable[tuple[str, int]], limit: int) -> Ranking:
    """The most frequent of names, each of which comes once with its count."""
    top: list[tuple[int, str, str]] = []
    total = 0
    for name, count in counts:
        total += 1
        entry = (-count, name.lower(), name)
        if len(top) < limit or entry < top[-1]:
            bisect.insort(top, entry)
            del top[limit:]
    return Ranking([(name, -negative) for negative, _, name in top], total)


@contextmanager
def tallying(tables: Tables) -> Iterator[Tallies]:
    """Tallies to be filled in the block."""
    with tables.writing("numbers", _NUMBERS) as numbers, tables.writing("names", _NAMES) as names:
        yield Tallies(tables, numbers, names)
