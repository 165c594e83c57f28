"""Turns miniatures, best picture first, into twins: which picture is a copy of a better one that stays."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.pipeline.deduplication.registration import Floats, Pixels, cells, could_match, lay_over
from surd.schemas.config import DedupConfig

_EXACT = 8192  # pictures up to which every pair is compared by the index
_NEAREST = 12  # neighbours of each picture that are looked at; itself is one of them
_PROBES = 16
_BLOCK = 1024
_FARTHEST = 36.0  # root mean square of levels: a crop of 6 % at every edge moves 8 x 8 cells by 14, at most by 34
_OUTSIDE = 0.006  # part of a side: a crop shows nothing that the whole does not, as far as it can be measured
_CROP_SLACK = 0.025  # how far off a measured crop may be
_UNCROPPED, _FULL_CROP = 0.75, 0.05  # part of the difference that is allowed without a crop; the crop that has it all
_SHARPER = 1.8  # a copy is not so much sharper; a blurred version is another picture

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Likeness:
    """How far two pictures differ once one lies over the other: bits of the hash, levels of colour; and if mirrored."""

    distance: int
    difference: float
    flipped: bool = False


def find_near_duplicates(minis: Pixels, settings: DedupConfig) -> dict[int, tuple[int, Likeness]]:
    """Row -> (row that stays, how alike), for every row that goes; ``minis`` [rows, 32, 32, 3] come best first.

    Every row that goes was itself compared with the one that stays, so no chain of small changes joins two pictures.
    Candidates are the nearest neighbours of each picture by 8 x 8 mean colours, found by faiss: exact up to some
    thousand rows, then an inverted file with a fixed seed. (Hashes would need some 20 crops of each picture at a radius
    of 8 of 64 bits, where bands of bits select next to nothing.)
    """
    edges: dict[int, dict[int, Likeness]] = defaultdict(dict)
    for one, other, likeness in _alike(minis, _candidates(minis, settings.flips), settings):
        for here, there in ((one, other), (other, one)):
            known = edges[here].get(there)
            if known is None or likeness.difference < known.difference:
                edges[here][there] = likeness
    return _stars(minis, edges, settings)


def _candidates(minis: Pixels, flips: bool) -> Pairs:
    """Pairs of rows worth a look, as [pairs, 3] of (better row, other row, 1 where one is mirrored), each once."""
    count = len(minis)
    if count < 2:
        return np.zeros((0, 3), np.int64)
    index = _index(cells(minis, 8).reshape(count, -1))
    codes = []
    for start in range(0, count, _BLOCK):
        block = minis[start : start + _BLOCK]
        for flipped in (0, 1) if flips else (0,):
            queries = cells(block[:, :, ::-1] if flipped else block, 8).reshape(len(block), -1)
            far, near = index.search(queries, min(_NEAREST, count))
            row, column = np.nonzero((near >= 0) & (far <= _FARTHEST**2 * index.d))
            one, other = row + start, near[row, column]
            pair = np.minimum(one, other) * count + np.maximum(one, other)
            codes.append((pair * 2 + flipped)[one != other])
    code = np.unique(np.concatenate(codes))
    return np.stack([code // 2 // count, code // 2 % count, code % 2], 1)


def _index(points: Floats) -> Any:
    import faiss

    rows, width = points.shape
    if rows <= _EXACT:
        index: Any = faiss.IndexFlatL2(width)
    else:
        lists = int(math.sqrt(rows))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, lists, faiss.METRIC_L2)
        index.nprobe = _PROBES
        index.train(points[np.linspace(0, rows - 1, min(rows, 64 * lists)).astype(np.int64)])
    index.add(points)
    return index


def _alike(minis: Pixels, pairs: Pairs, settings: DedupConfig) -> Iterator[tuple[int, int, Likeness]]:
    """Those of the pairs that show the same picture, and how alike they are."""
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        block = block[could_match(minis[block[:, 0]], _turned(minis, block))]
        for at in range(0, len(block), 128):
            some = block[at : at + 128]
            over = lay_over(minis[some[:, 0]], _turned(minis, some))
            # The more is cropped, the more detail of the whole picture falls between the cells of its miniature.
            allowed = settings.difference * (_UNCROPPED + (1 - _UNCROPPED) * np.minimum(over.cropped / _FULL_CROP, 1))
            same = (
                (over.outside <= _OUTSIDE)
                & (over.cropped <= settings.crop + _CROP_SLACK)
                & (over.distance <= settings.radius)
                & (over.difference <= allowed)
                & (over.sharpness <= _SHARPER)
            )
            for row in np.flatnonzero(same):
                likeness = Likeness(int(over.distance[row]), round(float(over.difference[row]), 2), bool(some[row, 2]))
                yield int(some[row, 0]), int(some[row, 1]), likeness


def _turned(minis: Pixels, pairs: Pairs) -> Pixels:
    """The second picture of each pair, mirrored where the pair says so."""
    seconds = minis[pairs[:, 1]]
    return np.where(pairs[:, 2, None, None, None] == 1, seconds[:, :, ::-1], seconds)


def _stars(
    minis: Pixels, edges: dict[int, dict[int, Likeness]], settings: DedupConfig
) -> dict[int, tuple[int, Likeness]]:
    """The best row of what hangs together stays, and all that are copies of it go; then the best of what is left."""
    twins: dict[int, tuple[int, Likeness]] = {}
    for centre in sorted(edges):
        if centre in twins:
            continue
        reached, waiting = {centre}, [centre]
        while waiting:
            for row in sorted(edges[waiting.pop()]):
                if row <= centre or row in reached or row in twins:
                    continue
                reached.add(row)
                if likeness := edges[centre].get(row) or _compare(minis, centre, row, settings):
                    twins[row] = (centre, likeness)
                    waiting.append(row)
    return twins


def _compare(minis: Pixels, centre: int, row: int, settings: DedupConfig) -> Likeness | None:
    """Two pictures that the index did not bring together, as where there are many copies of one picture."""
    pairs = np.array([(centre, row, flipped) for flipped in ((0, 1) if settings.flips else (0,))], np.int64)
    found = [likeness for _, _, likeness in _alike(minis, pairs, settings)]
    return min(found, key=lambda likeness: likeness.difference, default=None)
