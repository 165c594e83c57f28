"""Near duplicates of images: copies that were resized, recompressed, lightly cropped or mirrored."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.pipeline.deduplication.registration import Floats, Pixels, cells, may_match, register
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
    """How far two pictures differ after registration: bits of the hash, levels of colour; and whether mirrored."""

    distance: int
    difference: float
    flipped: bool = False


def find_near_duplicates(minis: Pixels, settings: DedupConfig) -> dict[int, tuple[int, Likeness]]:
    """Row -> (row that stays, how alike), for every duplicate; ``minis`` [rows, 32, 32, 3] are sorted best first.

    Every duplicate was itself compared with the row that stays, so no chain of small changes joins two pictures.
    Candidates are the nearest neighbours of each picture by 8 x 8 mean colours, found by faiss: exact up to some
    thousand rows, then an inverted file with a fixed seed. (Hashes would need some 20 crops of each picture at a radius
    of 8 of 64 bits, where bands of bits select next to nothing.)
    """
    edges: dict[int, dict[int, Likeness]] = defaultdict(dict)
    for one, other, likeness in _alike(minis, _candidates(minis, settings.flips), settings):
        for here, there in ((one, other), (other, one)):
            closest = edges[here].get(there)
            if closest is None or likeness.difference < closest.difference:
                edges[here][there] = likeness
    return _star_clusters(minis, edges, settings)


def _candidates(minis: Pixels, flips: bool) -> Pairs:
    """Pairs of rows to compare, as [pairs, 3] of (better row, other row, 1 if one is mirrored), each once."""
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


def _mirrored(minis: Pixels, pairs: Pairs) -> Pixels:
    """The second picture of each pair, mirrored if its third entry is 1."""
    seconds = minis[pairs[:, 1]]
    return np.where(pairs[:, 2, None, None, None] == 1, seconds[:, :, ::-1], seconds)


def _star_clusters(
    minis: Pixels, edges: dict[int, dict[int, Likeness]], settings: DedupConfig
) -> dict[int, tuple[int, Likeness]]:
    """Star clusters: the best row of a connected group stays and its copies go; then the best of the remaining rows."""
    duplicates: dict[int, tuple[int, Likeness]] = {}
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
                    duplicates[row] = (centre, likeness)
                    queue.append(row)
    return duplicates


def _compare(minis: Pixels, centre: int, row: int, settings: DedupConfig) -> Likeness | None:
    """Compares two pictures that the index did not pair, as happens with many copies of one picture."""
    pairs = np.array([(centre, row, flipped) for flipped in ((0, 1) if settings.flips else (0,))], np.int64)
    matches = [likeness for _, _, likeness in _alike(minis, pairs, settings)]
    return min(matches, key=lambda likeness: likeness.difference, default=None)
