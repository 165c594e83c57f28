"""Semantic duplicates: images whose CLIP embeddings are close to that of a better sample."""

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
class Duplicate:
    """The representative of a duplicate, and the cosine of their image embeddings."""

    key: str
    similarity: float


def find_semantic_duplicates(keys: list[str], vectors: FloatArray, most: float) -> dict[str, Duplicate]:
    """Key -> duplicate, for every row that goes. ``keys`` are best first; ``vectors`` [rows, width] of unit length.

    A row goes if its cosine with a row that stays is over ``most``; the closest of those represents it. So no two rows
    that stay are closer than that, and no row goes because of one that went itself, as happens where clusters are
    chains. Only rows that stay enter the index: memory is that of the embeddings, however large the clusters.

    The index is faiss: exact up to a few thousand rows, then an inverted file with a fixed seed. Of the kept libraries
    it alone builds an index in seconds on one core (a graph, as usearch makes, takes minutes), and the same one twice.
    """
    duplicates: dict[str, Duplicate] = {}
    if len(keys) < 2:
        return duplicates
    index = _index(vectors)
    indexed: list[int] = []  # rows in the index, in its order
    for start in range(0, len(keys), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        closest, which = _search(index, block)
        among = block @ block.T
        stays = np.zeros(len(block), bool)
        for row in range(len(block)):
            similarity, best = float(closest[row]), indexed[which[row]] if which[row] >= 0 else -1
            here = int(np.where(stays, among[row], -np.inf).argmax())
            if stays[here] and among[row, here] > similarity:
                similarity, best = float(among[row, here]), start + here
            if best >= 0 and similarity > most:
                duplicates[keys[start + row]] = Duplicate(keys[best], min(similarity, 1.0))
            else:
                stays[row] = True
        index.add(block[stays])
        indexed += (start + np.flatnonzero(stays)).tolist()
    return duplicates


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
    """Cosine and position of the nearest row in the index for each row of the block; -1 if the index is empty."""
    if not index.ntotal:
        return np.full(len(block), -np.inf, np.float32), np.full(len(block), -1)
    closest, which = index.search(block, 1)
    return closest[:, 0], which[:, 0]
