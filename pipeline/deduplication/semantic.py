"""Turns image embeddings into twins: which sample shows the same as a better one, as CLIP sees both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_EXACT = 8192  # images up to which every pair is compared
_BLOCK = 1024
_PROBES = 8


@dataclass(frozen=True)
class Twin:
    """Which row stands for another, and the cosine of their images."""

    key: str
    similarity: float


def find_semantic_duplicates(keys: list[str], vectors: FloatArray, most: float) -> dict[str, Twin]:
    """Key -> its twin, for every row that goes. ``keys`` come best first; ``vectors`` [rows, width] are unit length.

    A row goes when a row that stays is closer to it than ``most``; its twin is the closest of those. So no two rows
    that stay are closer than that, and none goes for the sake of one that went itself, as it may where clusters are
    chains. Only rows that stay enter the index: memory is that of the embeddings, however large the clusters.

    The index is faiss: exact up to a few thousand rows, then an inverted file with a fixed seed. Of the kept libraries
    it alone builds an index in seconds on one core (a graph, as usearch makes, takes minutes), and the same one twice.
    """
    twins: dict[str, Twin] = {}
    if len(keys) < 2:
        return twins
    index = _index(vectors)
    stay: list[int] = []  # rows in the index, in its order
    for start in range(0, len(keys), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        closest, which = _search(index, block)
        among = block @ block.T
        stays = np.zeros(len(block), bool)
        for row in range(len(block)):
            similarity, twin = float(closest[row]), stay[which[row]] if which[row] >= 0 else -1
            here = int(np.where(stays, among[row], -np.inf).argmax())
            if stays[here] and among[row, here] > similarity:
                similarity, twin = float(among[row, here]), start + here
            if twin >= 0 and similarity > most:
                twins[keys[start + row]] = Twin(keys[twin], min(similarity, 1.0))
            else:
                stays[row] = True
        index.add(block[stays])
        stay += (start + np.flatnonzero(stays)).tolist()
    return twins


def _index(vectors: FloatArray):  # type: ignore[no-untyped-def]  # faiss has no types
    import faiss

    rows, width = vectors.shape
    if rows <= _EXACT:
        return faiss.IndexFlatIP(width)
    lists = int(math.sqrt(rows))
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = _PROBES
    sample = np.linspace(0, rows - 1, min(rows, 64 * lists)).astype(np.int64)
    index.train(np.ascontiguousarray(vectors[sample]))
    return index


def _search(index, block: FloatArray):  # type: ignore[no-untyped-def]
    """Cosine and number of the nearest row in the index for each of the block; number -1 where there is none."""
    if not index.ntotal:
        return np.full(len(block), -np.inf, np.float32), np.full(len(block), -1)
    closest, which = index.search(block, 1)
    return closest[:, 0], which[:, 0]
