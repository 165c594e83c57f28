"""Calibration of CLIP scores: what shuffled image/prompt pairs of a build score, as a scale for its cosines.

A cosine of 0.3 is high for one CLIP model and low for another. What an image scores with the prompt of another image
is noise in any of them, so a threshold can be given as a false-match rate: the share of such pairs that pass it.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import FloatArray, columns_of, read_columns, read_embeddings
from surd.schemas import Calibration, ShuffledScores

log = logging.getLogger(__name__)
PROMPTS = 512  # prompts of others that every image is scored with: 262,144 pairs or more in a build of at least as many
LEAST_IMAGES = 100  # with fewer, neither images nor prompts are varied enough to represent a build
LEAST_BEYOND = 10  # shuffled pairs that must lie beyond a threshold, else its rate is a guess, not a measurement
QUANTILES = (0.5, 0.9, 0.99, 0.999)
_BINS, _STEP = 1 << 16, 2.0**-15  # of the fine count over [-1, 1]: memory does not grow with the number of pairs
_COARSE = 0.005
_BLOCK = 4096  # images at once


@dataclass(frozen=True)
class _Kind:
    """Where one kind of prompt has its embedding, and which texts tell the prompts of two images apart."""

    name: str
    stage: str
    embedding: str
    texts: tuple[tuple[str, str], ...]


_KINDS = (
    _Kind("complex", "score", "complex_embedding", (("clean", "complex"),)),
    _Kind("simple", "correct", "simple_embedding", (("clean", "complex"), ("correct", "simple"))),
)


@dataclass
class _Shuffled:
    """The sampled prompts of one kind [prompts, width], their words, and what the images score with them."""

    kind: _Kind
    vectors: FloatArray
    words: list[tuple[str, ...]]
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    images: int = 0

    def add(self, images: FloatArray, words: list[tuple[str, ...]]) -> None:
        """Count one block of images; their own prompts have ``words``."""
        cosines = images @ self.vectors.T
        cosines += 1
        cosines *= 1 / _STEP
        bins = np.clip(cosines, 0, _BINS - 1, out=cosines).astype(np.intp)
        self.counts += np.bincount(bins.ravel(), minlength=_BINS)
        self.images += len(images)
        for row, of_image in enumerate(words):  # few images share a prompt with a sampled one: these are subtracted
            prompts = self._prompts_with
            if shared := sorted({at for text, bag in enumerate(of_image) for at in prompts[text].get(bag, ())}):
                self.counts -= np.bincount(bins[row, shared], minlength=_BINS)

    @cached_property
    def _prompts_with(self) -> list[dict[str, list[int]]]:
        """Per text that must differ: words -> the sampled prompts that have them."""
        prompts: list[dict[str, list[int]]] = [defaultdict(list) for _ in self.kind.texts]
        for at, of_prompt in enumerate(self.words):
            for text, bag in enumerate(of_prompt):
                prompts[text][bag].append(at)
        return prompts


def calibrate(build: Build, rates: dict[str, float | None], clip: str) -> Calibration:
    """Measure shuffled pairs; ``rates`` maps ``simple`` and ``complex`` to a false-match rate or None.

    Every image that has an embedding is scored with the prompts of ``PROMPTS`` others: those with the smallest keys,
    which are hashes and so a fair sample that needs no seed. A build with no more images than that is measured whole,
    all n(n-1) pairs. A pair is left out when the image's own prompt has the same words as the other's: it would not be
    a false match.

    One partition is in memory at a time. Too few pairs are not an error: the notes say so, and there is no threshold.
    """
    shuffled = [sample for kind in _KINDS if (sample := _sample_prompts(build, kind))]
    _score_all(build, shuffled)
    by_name = {each.kind.name: each for each in shuffled}
    notes = []
    measured: dict[str, ShuffledScores | None] = {}
    for kind in _KINDS:
        each, rate = by_name.get(kind.name), rates.get(kind.name)
        why = _too_few(rate, each)
        if why and rate is not None:
            notes.append(f"false_match_rate_{kind.name} {rate:g} is not applied: {why}")
            log.warning("select: %s", notes[-1])
        measured[kind.name] = _summary(each.counts, rate, not why) if each and each.counts.any() else None
    widest = max(shuffled, key=lambda each: each.images, default=None)
    return Calibration(
        clip=clip,
        images=widest.images if widest else 0,
        prompts=len(widest.words) if widest else 0,
        notes=notes,
        **measured,
    )


def _too_few(rate: float | None, measured: _Shuffled | None) -> str | None:
    if measured is None:
        return "the build has no embedding of such a prompt"
    if measured.images < LEAST_IMAGES:
        return f"{measured.images} images are too few to calibrate it, {LEAST_IMAGES} are needed"
    pairs = int(measured.counts.sum())
    if rate is not None and pairs * rate < LEAST_BEYOND:
        return f"{pairs:,} shuffled pairs are too few to calibrate it, {math.ceil(LEAST_BEYOND / rate):,} are needed"
    return None


def _sample_prompts(build: Build, kind: _Kind) -> _Shuffled | None:
    """The prompts with the smallest keys; None if there are none."""
    keys: list[str] = []
    vectors: FloatArray | None = None
    words: dict[str, tuple[str, ...]] = {}
    for part in range(build.part_count()):
        if kind.embedding not in columns_of(build, kind.stage, part):
            return None
        of_part, more = read_embeddings(build, kind.stage, part, kind.embedding)
        keys += of_part
        order = sorted(range(len(keys)), key=keys.__getitem__)[:PROMPTS]
        if of_part:
            vectors = (more if vectors is None else np.concatenate([vectors, more]))[order]
        keys = [keys[at] for at in order]
        words |= _words(build, part, [kind], set(of_part).intersection(keys))[kind.name]
    return _Shuffled(kind, vectors, [words[key] for key in keys]) if vectors is not None else None


def _score_all(build: Build, shuffled: list[_Shuffled]) -> None:
    """Score every image that has a prompt of a kind itself with the sampled prompts of that kind."""
    for part in range(build.part_count() if shuffled else 0):
        keys, images = read_embeddings(build, "score", part, "image_embedding")
        words = _words(build, part, [each.kind for each in shuffled], set(keys))
        for each in shuffled:
            own = words[each.kind.name]
            with_prompt = _keys_with_prompt(build, part, each.kind)
            rows = [row for row, key in enumerate(keys) if key in with_prompt]
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                each.add(images[block], [own[keys[row]] for row in block])


def _keys_with_prompt(build: Build, part: int, kind: _Kind) -> set[str]:
    """Keys of the rows that reached the stage that embeds this kind of prompt, and passed it."""
    rows = read_columns(build, kind.stage, part, ["key", "status"])
    return set(rows["key"].filter(pc.equal(rows["status"], "kept")).to_pylist())


def _words(build: Build, part: int, kinds: list[_Kind], keys: set[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Per kind: key -> the bags of words all of which must differ, else a shuffled pair is not a false match."""
    bags: dict[tuple[str, str], dict[str, str]] = {}
    for stage, column in sorted({text for kind in kinds for text in kind.texts}):
        table = read_columns(build, stage, part, ["key", column])
        pairs = zip(table["key"].to_pylist(), table[column].to_pylist(), strict=True)
        bags[stage, column] = {key: _bag_of_words(text) for key, text in pairs if key in keys}
    return {kind.name: {key: tuple(bags[text][key] for text in kind.texts) for key in keys} for kind in kinds}


def _bag_of_words(text: str | None) -> str:
    """A prompt as its distinct words, so that letter case, commas and order make no difference."""
    return " ".join(sorted(set((text or "").casefold().replace(",", " ").replace(".", " ").split())))


def _summary(counts: npt.NDArray[np.int64], rate: float | None, usable: bool) -> ShuffledScores:
    pairs = int(counts.sum())
    per_coarse = round(_COARSE / _STEP)  # 164 fine bins, so that coarse edges are fine ones too
    coarse = np.add.reduceat(counts, np.arange(0, _BINS, per_coarse))
    first, last = np.flatnonzero(coarse)[[0, -1]]
    return ShuffledScores(
        pairs=pairs,
        quantiles={f"{share:g}": _least(counts, pairs - share * pairs) for share in QUANTILES},
        rate=rate,
        threshold=_least(counts, rate * pairs) if rate is not None and usable else None,
        start=float(first * per_coarse * _STEP - 1),
        step=per_coarse * _STEP,
        counts=coarse[first : last + 1].tolist(),
    )


def _least(counts: npt.NDArray[np.int64], allowed: float) -> float:
    """The least edge of a fine bin that at most ``allowed`` pairs reach."""
    reaching = counts[::-1].cumsum()[::-1]  # pairs at or above the lower edge of each bin: never rises
    at = int(np.count_nonzero(reaching > allowed + 1e-6))
    return at * _STEP - 1
