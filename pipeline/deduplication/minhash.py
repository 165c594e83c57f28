"""Fuzzy duplicates of prompts by MinHash LSH.

Memory: that of the largest group of prompts that are linked, one to the next, by a band of their sketches, and some
tens of bytes a prompt; the prompts themselves lie on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rensa import RMinHash, RMinHashLSH

from surd.pipeline.deduplication.clusters import Numbers, clusters
from surd.pipeline.tables import Documents, Tables

_PERMUTATIONS, _BANDS, _SEED = 128, 16, 1  # finds 99.99 % of the pairs that are 0.9 alike, 95 % of those 0.8 alike
_SHINGLE = 3
_PER_BAND = _PERMUTATIONS // _BANDS
_MIX = np.random.default_rng(_SEED).integers(1, 2**64, (_BANDS, _PER_BAND), np.uint64) | np.uint64(1)
_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class PromptDuplicate:
    """The representative row of a prompt's cluster, and the Jaccard similarity of the two prompts."""

    row: int
    similarity: float


def find_prompt_duplicates(prompts: Sequence[frozenset[str]], least: float) -> list[PromptDuplicate]:
    """For each prompt, best row first, the representative that is at least ``least`` alike, or itself.

    MinHash LSH proposes, the exact Jaccard similarity decides. Of the kept libraries rensa does it in a quarter of a
    second for 20,000 prompts; datasketch takes three seconds and at its own choice of bands misses a quarter of the
    pairs that lie just above the threshold.
    """
    duplicates: list[PromptDuplicate] = []
    same: dict[frozenset[str], PromptDuplicate] = {}
    lsh = RMinHashLSH(threshold=least, num_perm=_PERMUTATIONS, num_bands=_BANDS)
    for row, prompt in enumerate(prompts):
        if prompt not in same:
            sketch = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
            sketch.update(sorted(prompt))
            near = [(jaccard(prompt, prompts[other]), -other) for other in lsh.query(sketch)]
            similarity, negative = max(near, default=(0.0, 0))
            if similarity >= least:
                same[prompt] = PromptDuplicate(-negative, similarity)
            else:
                same[prompt] = PromptDuplicate(row, 1.0)
                lsh.insert(row, sketch)
        duplicates.append(same[prompt])
    return duplicates


class PromptTable:
    """Prompts of any number, and the duplicates among them: those that ``find_prompt_duplicates`` would find.

    Prompts of which no band of the sketch is that of another one cannot be its candidates. So the prompts that share
    one are linked, and each group of linked prompts is compared by itself.
    """

    SCHEMA = pa.schema(
        [
            ("row", pa.int32()),
            ("digest", pa.binary()),  # of the set; equal prompts are compared once
            ("bands", pa.list_(pa.uint64())),
            ("offset", pa.int64()),  # of the set as JSON
            ("size", pa.int64()),
        ]
    )

    def __init__(self, tables: Tables, documents: Documents) -> None:
        self._tables, self._documents = tables, documents

    def entries(self, rows: Sequence[int], prompts: Sequence[frozenset[str]]) -> Iterator[dict[str, object]]:
        """Rows of the table ``prompts``, which the caller writes."""
        ordered = [sorted(prompt) for prompt in prompts]
        for row, words, bands in zip(rows, ordered, _bands(ordered), strict=True):
            text = json.dumps(words).encode("ascii")
            offset, size = self._documents.add(text)
            digest = hashlib.blake2b(text, digest_size=16).digest()
            yield {"row": row, "digest": digest, "bands": bands, "offset": offset, "size": size}

    def duplicates(self, least: float) -> Iterator[tuple[int, PromptDuplicate]]:
        """Row and representative of each prompt that is linked to another one, the first of equal ones only.

        Rows are 0, 1, ... with the best first. Also makes the table ``equals``: each row, and the ``first`` with its
        prompt.
        """
        tables = self._tables
        self._documents.flush()
        tables.make("equals", 'SELECT "row", min("row") OVER (PARTITION BY digest) AS "first" FROM prompts')
        links = self._links()
        places = np.zeros((tables.count("prompts"), 2), np.int64)
        for batch in tables.batches("prompts", ["row", "offset", "size"]):
            places[batch["row"].to_numpy()] = _matrix(batch.select(["offset", "size"]))
        for of_cluster in clusters(len(places), links[:, 0], links[:, 1]):
            rows = np.unique(links[of_cluster]).tolist()
            prompts = [frozenset(json.loads(self._documents.read(*places[row].tolist()))) for row in rows]
            for row, duplicate in zip(rows, find_prompt_duplicates(prompts, least), strict=True):
                yield row, PromptDuplicate(rows[duplicate.row], duplicate.similarity)

    def _links(self) -> Numbers:
        """The first row and each further row with one of its bands [links, 2], each pair once.

        A band after another: a table of all bands, sorted or grouped by DuckDB, takes all the memory that it may have.
        """
        count = self._tables.count("prompts")
        is_first = np.zeros(count, bool)
        for batch in self._tables.batches("equals"):
            row, first = (batch[name].to_numpy() for name in ("row", "first"))
            is_first[row] = row == first
        rows = np.flatnonzero(is_first)
        codes = np.zeros(0, np.int64)
        bands = np.zeros(count, np.uint64)
        for band in range(_BANDS):
            for batch in self._tables.batches("prompts", ["row", "bands"]):
                bands[batch["row"].to_numpy()] = batch["bands"].flatten().to_numpy().reshape(-1, _BANDS)[:, band]
            first, row = _linked(rows, bands[rows])
            codes = np.unique(np.concatenate([codes, first * count + row]))
        return np.stack([codes // max(count, 1), codes % max(count, 1)], 1)


def _linked(rows: Numbers, bands: Numbers) -> tuple[Numbers, Numbers]:
    """The first row of a band and each further row that has it; ``rows`` ascend."""
    order = np.argsort(bands, kind="stable")
    bands = bands[order]
    is_further = np.zeros(len(bands), bool)
    is_further[1:] = bands[1:] == bands[:-1]
    further, starts = np.flatnonzero(is_further), np.flatnonzero(~is_further)
    first = starts[np.searchsorted(starts, further) - 1]
    return rows[order[first]], rows[order[further]]


def _bands(prompts: list[list[str]]) -> list[list[int]]:
    """A number for each band of each prompt's sketch: equal bands have equal numbers."""
    sketches = np.array(RMinHash.digests_from_token_sets(prompts, _PERMUTATIONS, _SEED), np.uint64)
    mixed = (sketches.reshape(-1, _BANDS, _PER_BAND) + np.uint64(1)) * _MIX
    bands: list[list[int]] = (mixed ^ (mixed >> np.uint64(29))).sum(2, dtype=np.uint64).tolist()
    return bands


def _matrix(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return np.stack([column.to_numpy() for column in batch.columns], 1)


def prompt_set(keywords: Sequence[str]) -> frozenset[str]:
    """The set that represents a prompt: its keywords, or for one written in sentences all runs of three words."""
    plain = [words for keyword in keywords if (words := _words(keyword))]
    longest = max((len(words) for words in plain), default=0)
    if longest <= 2 * _SHINGLE:
        return frozenset(" ".join(words) for words in plain)
    text = [word for words in plain for word in words]
    return frozenset(" ".join(text[at : at + _SHINGLE]) for at in range(len(text) - _SHINGLE + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union; 1.0 for two empty sets."""
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def _words(keyword: str) -> list[str]:
    return _NOT_A_WORD.sub(" ", unicodedata.normalize("NFKC", keyword).casefold()).split()
