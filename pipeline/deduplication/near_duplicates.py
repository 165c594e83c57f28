"""Near duplicates of images: copies that were resized, recompressed, lightly cropped or mirrored.

Memory: 200 bytes a picture in the index and 24 bytes a pair of copies; the miniatures stay on disk.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from surd.pipeline.deduplication.clusters import clusters
from surd.pipeline.deduplication.registration import SIDE, Floats, Pixels, cells, may_match, register
from surd.schemas.config import DedupConfig

_EXACT = 8192  # pictures up to which every pair is compared by the index; beyond it so many are added at once
_NEAREST = 12  # neighbours of each picture that are looked at; itself is one of them
_LISTS, _PROBES = 2, 16  # lists of the inverted file for each square root of the pictures; lists searched of them
_TRAINED = 40  # pictures for each list that its centre is learned from
_BLOCK = 1024
_FARTHEST = 36.0  # root mean square of levels: a crop of 6 % at every edge moves 8 x 8 cells by 14, at most by 34
_OUTSIDE = 0.006  # part of a side: a crop shows nothing that the whole does not, as far as it can be measured
_CROP_SLACK = 0.025  # how far off a measured crop may be
_UNCROPPED, _FULL_CROP = 0.75, 0.05  # part of the difference that is allowed without a crop; the crop that has it all
_SHARPER = 1.8  # a copy is not so much sharper; a blurred version is another picture
_MINIATURE = SIDE * SIDE * 3  # bytes

Pairs = npt.NDArray[np.int64]
_EDGE = np.dtype(
    [("one", np.int32), ("other", np.int32), ("distance", np.int32), ("flipped", np.int32), ("difference", np.float64)]
)


@dataclass(frozen=True)
class Likeness:
    """How far two pictures differ after registration: bits of the hash, levels of colour; and whether mirrored."""

    distance: int
    difference: float
    flipped: bool = False


class MiniatureFile:
    """Miniatures on disk, indexed like an array [rows, 32, 32, 3]: only the rows that are asked for are in memory.

    Read, not mapped: pages of a mapped file that were touched once count as memory of the process.
    """

    def __init__(self, file: Path, count: int) -> None:
        self._file, self._count = file.open("w+b"), count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def write(self, row: int, mini: Pixels) -> None:
        """Put one miniature in its place."""
        os.pwrite(self._file.fileno(), mini.tobytes(), row * _MINIATURE)

    def __getitem__(self, rows: slice | Pairs) -> Pixels:
        file = self._file.fileno()
        if isinstance(rows, slice):
            first, end, _ = rows.indices(self._count)
            data = os.pread(file, (end - first) * _MINIATURE, first * _MINIATURE)
        else:
            data = b"".join(os.pread(file, _MINIATURE, row * _MINIATURE) for row in rows.tolist())
        return np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE, 3)


Miniatures = Pixels | MiniatureFile


def find_near_duplicates(minis: Miniatures, settings: DedupConfig) -> Iterator[tuple[int, int, Likeness]]:
    """Row, row that stays, how alike, for every duplicate; ``minis`` [rows, 32, 32, 3] are sorted best first.

    Every duplicate was itself compared with the row that stays, so no chain of small changes joins two pictures.
    Candidates are the nearest neighbours of each picture by 8 x 8 mean colours, found by faiss: exact up to some
    thousand rows, then an inverted file with a fixed seed. (Hashes would need some 20 crops of each picture at a radius
    of 8 of 64 bits, where bands of bits select next to nothing.) It is filled block by block, and each block is
    compared with itself and with what came before: the better rows, among which the one that stays is.
    """
    pairs = [np.zeros(0, _EDGE)]
    for candidates in _candidates(minis, settings.flips):
        found = [(one, other, like.distance, like.flipped, like.difference)
                 for one, other, like in _alike(minis, candidates, settings)]  # fmt: skip
        pairs.append(np.array(found, _EDGE))
    edges = np.concatenate(pairs)
    for of_cluster in clusters(len(minis), edges["one"], edges["other"]):
        yield from _star_clusters(minis, _closest(edges[of_cluster]), settings)


def _candidates(minis: Miniatures, flips: bool) -> Iterator[Pairs]:
    """Pairs of rows to compare, as [pairs, 3] of (better row, other row, 1 if one is mirrored), each once."""
    count = len(minis)
    if count < 2:
        return
    index = _index(minis)
    for first in range(0, count, _EXACT):
        end = min(first + _EXACT, count)
        for start in range(first, end, _BLOCK):
            index.add(_points(minis[start : min(start + _BLOCK, end)]))
        codes = []
        for start in range(first, end, _BLOCK):
            block = minis[start : min(start + _BLOCK, end)]
            for flipped in (0, 1) if flips else (0,):
                far, near = index.search(_points(block[:, :, ::-1] if flipped else block), min(_NEAREST, count))
                row, column = np.nonzero((near >= 0) & (far <= _FARTHEST**2 * index.d))
                one, other = row + start, near[row, column]
                pair = np.minimum(one, other) * count + np.maximum(one, other)
                codes.append((pair * 2 + flipped)[one != other])
        code = np.unique(np.concatenate(codes))
        yield np.stack([code // 2 // count, code // 2 % count, code % 2], 1)


def _points(minis: Pixels) -> Floats:
    """What the index knows of miniatures: their 8 x 8 mean colours, [rows, 192]."""
    return cells(minis, 8).reshape(len(minis), -1)


def _index(minis: Miniatures) -> Any:
    """An empty index for these miniatures, trained on a part of them.

    Beyond the exact size a colour is one byte, as in a picture: a quarter of the memory, and read in half the time.
    """
    import faiss

    rows, width = len(minis), 8 * 8 * 3
    if rows <= _EXACT:
        return faiss.IndexFlatL2(width)
    lists = int(_LISTS * math.sqrt(rows))
    byte = faiss.ScalarQuantizer.QT_8bit_direct
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(width), width, lists, byte, faiss.METRIC_L2, False)
    index.nprobe = _PROBES
    chosen = np.linspace(0, rows - 1, min(rows, _TRAINED * lists)).astype(np.int64)
    sample = np.empty((len(chosen), width), np.float32)
    for start in range(0, len(chosen), _BLOCK):
        sample[start : start + _BLOCK] = _points(minis[chosen[start : start + _BLOCK]])
    index.train(sample)
    return index


def _alike(minis: Miniatures, pairs: Pairs, settings: DedupConfig) -> Iterator[tuple[int, int, Likeness]]:
    """Those of the pairs that show the same picture, and how alike they are."""
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        block = block[may_match(minis[block[:, 0]], _mirrored(minis, block))]
        for at in range(0, len(block), 128):
            some = block[at : at + 128]
            alignment = register(minis[some[:, 0]], _mirrored(minis, some))
            # The more is cropped, the more detail of the whole picture falls between the cells of its miniature.
            cropped = np.minimum(alignment.cropped / _FULL_CROP, 1)
            allowed = settings.difference * (_UNCROPPED + (1 - _UNCROPPED) * cropped)
            same = (
                (alignment.outside <= _OUTSIDE)
                & (alignment.cropped <= settings.crop + _CROP_SLACK)
                & (alignment.distance <= settings.radius)
                & (alignment.difference <= allowed)
                & (alignment.sharpness <= _SHARPER)
            )
            for row in np.flatnonzero(same):
                likeness = Likeness(
                    int(alignment.distance[row]), round(float(alignment.difference[row]), 2), bool(some[row, 2])
                )
                yield int(some[row, 0]), int(some[row, 1]), likeness


def _mirrored(minis: Miniatures, pairs: Pairs) -> Pixels:
    """The second picture of each pair, mirrored if its third entry is 1."""
    seconds = minis[pairs[:, 1]]
    return np.where(pairs[:, 2, None, None, None] == 1, seconds[:, :, ::-1], seconds)


def _closest(edges: npt.NDArray[Any]) -> dict[int, dict[int, Likeness]]:
    """Row -> rows that are alike, each by its closest comparison."""
    closest: dict[int, dict[int, Likeness]] = defaultdict(dict)
    for one, other, distance, flipped, difference in edges.tolist():
        likeness = Likeness(distance, difference, bool(flipped))
        for here, there in ((one, other), (other, one)):
            known = closest[here].get(there)
            if known is None or likeness.difference < known.difference:
                closest[here][there] = likeness
    return closest


def _star_clusters(
    minis: Miniatures, edges: dict[int, dict[int, Likeness]], settings: DedupConfig
) -> Iterator[tuple[int, int, Likeness]]:
    """Star clusters: the best row of a connected group stays and its copies go; then the best of the remaining rows."""
    duplicates: set[int] = set()
    for centre in sorted(edges):
        if centre in duplicates:
            continue
        reached, queue = {centre}, [centre]
        while queue:
            for row in sorted(edges[queue.pop()]):
                if row <= centre or row in reached or row in duplicates:
                    continue
                reached.add(row)
                if likeness := edges[centre].get(row) or _compare(minis, centre, row, settings):
                    duplicates.add(row)
                    queue.append(row)
                    yield row, centre, likeness


def _compare(minis: Miniatures, centre: int, row: int, settings: DedupConfig) -> Likeness | None:
    """Compares two pictures that the index did not pair, as happens with many copies of one picture."""
    pairs = np.array([(centre, row, flipped) for flipped in ((0, 1) if settings.flips else (0,))], np.int64)
    matches = [likeness for _, _, likeness in _alike(minis, pairs, settings)]
    return min(matches, key=lambda likeness: likeness.difference, default=None)
