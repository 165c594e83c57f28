"""Semantic duplicates: images whose CLIP embeddings are close to that of a better sample.

Memory: the vectors that the index is trained on (64 for each square root of the images), three times 8,192 vectors,
and 8 bytes an image; the embeddings themselves stay on disk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_EXACT = 8192  # images up to which every pair is compared
_BLOCK = 1024
_AT_ONCE = 8 * _BLOCK  # vectors in memory at once, beyond
_PROBES = 8


@dataclass(frozen=True)
class Duplicate:
    """Place of the row that represents a duplicate, and the cosine of their image embeddings."""

    row: int
    similarity: float


class VectorFile:
    """Vectors on disk, indexed like an array [rows, width] of float32: only the rows that are asked for are in memory.

    Read, not mapped: pages of a mapped file that were touched once count as memory of the process. A row that was not
    written is zero.
    """

    def __init__(self, file: Path, rows: int, width: int) -> None:
        self._file = file.open("w+b")
        self._bytes = 4 * width
        self.shape = rows, width
        self._file.truncate(rows * self._bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, row: int, vector: FloatArray) -> None:
        """Put one vector in its place."""
        os.pwrite(self._file.fileno(), vector.tobytes(), row * self._bytes)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> FloatArray:
        file, width = self._file.fileno(), self.shape[1]
        if isinstance(rows, slice):
            first, end, _ = rows.indices(self.shape[0])
            data = os.pread(file, (end - first) * self._bytes, first * self._bytes)
            return np.frombuffer(data, np.float32).reshape(-1, width)
        vectors = np.empty((len(rows), width), np.float32)
        for place, row in enumerate(rows.tolist()):
            os.preadv(file, [vectors[place]], row * self._bytes)
        return vectors


Vectors = FloatArray | VectorFile


def find_semantic_duplicates(vectors: Vectors, most: float) -> Iterator[tuple[int, Duplicate]]:
    """Row and duplicate, for every row that goes; ``vectors`` [rows, width] of unit length are sorted best first.

    A row goes if its cosine with a row that stays is over ``most``; the closest of those represents it. So no two rows
    that stay are closer than that, and no row goes because of one that went itself, as happens where clusters are
    chains. Only rows that stay enter the index, so that its time does not grow with the clusters.

    The index is faiss: exact up to a few thousand rows, then an inverted file with a fixed seed. Of the kept libraries
    it alone builds an index in seconds on one core (a graph, as usearch makes, takes minutes), and the same one twice.
    """
    rows = vectors.shape[0]
    if rows < 2:
        return
    index: _Exact | _Inverted = _Exact(vectors.shape[1]) if rows <= _EXACT else _Inverted(vectors)
    for start in range(0, rows, _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        closest, which = index.search(start, block)
        among = block @ block.T
        stays = np.zeros(len(block), bool)
        for row in range(len(block)):
            similarity, best = float(closest[row]), int(which[row])
            here = int(np.where(stays, among[row], -np.inf).argmax())
            if stays[here] and among[row, here] > similarity:
                similarity, best = float(among[row, here]), start + here
            if best >= 0 and similarity > most:
                yield start + row, Duplicate(best, min(similarity, 1.0))
            else:
                stays[row] = True
        index.add(start + np.flatnonzero(stays), block[stays])


class _Exact:
    """The rows that stay, of which every one is compared."""

    def __init__(self, width: int) -> None:
        import faiss

        self._index = faiss.IndexIDMap(faiss.IndexFlatIP(width))

    def search(self, start: int, block: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Cosine and row of the nearest row in the index for each row of the block; -1 if the index is empty."""
        return _nearest(*self._index.search(block, 1))

    def add(self, rows: npt.NDArray[np.int64], vectors: FloatArray) -> None:
        """Add rows that stay."""
        self._index.add_with_ids(vectors, rows)


class _Inverted:
    """The rows that stay in the lists of a trained index, of which those closest to a vector are compared with it.

    Only those of the last ``_AT_ONCE`` rows that stay are in the lists. They are then put aside, as
    numbers of rows and of their lists; and the next ``_AT_ONCE`` rows are compared at once with all that are aside,
    which are read again for it, some thousand after the other.
    """

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        rows, width = vectors.shape
        lists = int(math.sqrt(rows))
        self._vectors = vectors
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        self._index.nprobe = _PROBES
        sample = np.linspace(0, rows - 1, min(rows, 64 * lists)).astype(np.int64)
        self._index.train(np.ascontiguousarray(vectors[sample]))
        self._aside: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []  # rows, and the list of each
        self._added: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._first = 0  # row of the first of those that were looked up at once
        self._closest = np.zeros(0, np.float32)
        self._which = np.zeros(0, np.int64)

    def search(self, start: int, block: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Cosine and row of the nearest row in the lists for each row of the block; -1 if there is none."""
        if start % _AT_ONCE == 0:
            self._look_up(start)
        here = slice(start - self._first, start - self._first + len(block))
        closest, which = _nearest(*self._index.search(block, 1))
        return _closer(self._closest[here], self._which[here], closest, which)

    def add(self, rows: npt.NDArray[np.int64], vectors: FloatArray) -> None:
        """Add rows that stay."""
        if len(rows):
            _, lists = self._index.quantizer.search(vectors, 1)
            self._put(rows, vectors, lists[:, 0])
            self._added.append((rows, lists[:, 0]))

    def _put(self, rows: npt.NDArray[np.int64], vectors: FloatArray, lists: npt.NDArray[np.int64]) -> None:
        from faiss.contrib.ivf_tools import add_preassigned

        add_preassigned(self._index, np.ascontiguousarray(vectors), lists, rows)

    def _look_up(self, start: int) -> None:
        """Put the last rows aside, and compare the next ones with all that are."""
        from faiss.contrib.ivf_tools import search_preassigned

        self._index.reset()
        if self._added:
            added = [np.concatenate([one[column] for one in self._added]) for column in (0, 1)]
            self._aside.append((added[0], added[1]))
            self._added = []
        self._first = start
        block = np.ascontiguousarray(self._vectors[start : start + _AT_ONCE])
        self._closest, self._which = np.full(len(block), -np.inf, np.float32), np.full(len(block), -1, np.int64)
        far, probes = self._index.quantizer.search(block, _PROBES)
        for rows, lists in self._aside:
            self._put(rows, self._vectors[rows], lists)
            closest, which = _nearest(*search_preassigned(self._index, block, 1, probes, far))
            self._closest, self._which = _closer(self._closest, self._which, closest, which)
            self._index.reset()


def _nearest(closest: Any, which: Any) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Of a search by faiss, whose cosine is not defined where there is nothing."""
    which = which[:, 0]
    return np.where(which >= 0, closest[:, 0], np.float32(-np.inf)), which


def _closer(
    one: FloatArray, of_one: npt.NDArray[np.int64], other: FloatArray, of_other: npt.NDArray[np.int64]
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Cosine and row, of two nearest rows for each, of the nearer."""
    nearer = other > one
    return np.where(nearer, other, one), np.where(nearer, of_other, of_one)
