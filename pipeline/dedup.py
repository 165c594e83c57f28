"""dedup: turns hashes of every partition into clusters of the same picture, of which the best one is kept."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from pipeline.build import Build
from pipeline.models import Models
from schemas import Cleaned, Deduped, Pair, Reason
from schemas.config import DedupConfig

_BITS = 64


def dedup(build: Build, settings: DedupConfig, models: Models) -> list[list[Deduped]]:
    """Rows per partition. Of a cluster the row with most pixels stays, then most bytes, then the smallest key."""
    parts = range(build.part_count())
    pairs = [build.read_rows("fetch", part, Pair) for part in parts]
    cleaned = [build.read_rows("clean", part, Cleaned) for part in parts]
    twins = _find_twins(
        [pair for ps, cs in zip(pairs, cleaned, strict=True) for pair, row in zip(ps, cs, strict=True) if row.kept],
        settings.radius,
    )
    return [[_decide(row, twins) for row in rows] for rows in cleaned]


class HammingIndex:
    """Finds hashes within a radius exactly: two that differ in at most r bits agree on one of r + 1 bands of bits."""

    def __init__(self, radius: int, bits: int = _BITS) -> None:
        self.radius = radius
        edges = [bits * band // (radius + 1) for band in range(radius + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._buckets: list[dict[int, list[tuple[int, str]]]] = [defaultdict(list) for _ in self._bands]

    def nearest(self, value: int) -> tuple[int, str] | None:
        """(distance, key) of the nearest entry within the radius, ties by key; None when there is none."""
        found = {
            ((value ^ other).bit_count(), key)
            for (shift, mask), buckets in zip(self._bands, self._buckets, strict=True)
            for other, key in buckets.get(value >> shift & mask, ())
        }
        best = min(found, default=None)
        return best if best is not None and best[0] <= self.radius else None

    def add(self, value: int, key: str) -> None:
        for (shift, mask), buckets in zip(self._bands, self._buckets, strict=True):
            buckets[value >> shift & mask].append((value, key))


def _find_twins(pairs: list[Pair], radius: int) -> dict[str, tuple[str, int | None]]:
    """Key -> (key of the row that stays, Hamming distance; None when the bytes are the same)."""
    by_bytes: dict[str, str] = {}
    index = HammingIndex(radius) if radius >= 0 else None
    twins: dict[str, tuple[str, int | None]] = {}
    for pair in sorted(pairs, key=lambda p: (-(p.width or 0) * (p.height or 0), -(p.size or 0), p.key)):
        assert pair.sha256 and pair.phash, "a kept pair has its hashes"
        first = by_bytes.setdefault(pair.sha256, pair.key)
        if first != pair.key:
            twins[pair.key] = (twins.get(first, (first, None))[0], None)
        elif index:
            value = int(pair.phash, 16)
            if near := index.nearest(value):
                twins[pair.key] = (near[1], near[0])
            else:
                index.add(value, pair.key)
    return twins


def _decide(row: Cleaned, twins: dict[str, tuple[str, int | None]]) -> Deduped:
    deduped = Deduped(**row.verdict())
    if not row.kept:
        return deduped
    if row.key not in twins:
        return deduped.model_copy(update={"cluster": row.key})
    cluster, distance = twins[row.key]
    deduped = deduped.model_copy(update={"cluster": cluster, "distance": distance})
    if distance is None:
        return deduped.reject("dedup", Reason.DUPLICATE_BYTES, f"same bytes as {cluster}")
    return deduped.reject("dedup", Reason.DUPLICATE_IMAGE, f"{distance} bits from {cluster}")
