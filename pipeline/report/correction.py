"""What the report shows of semantic correction and of calibration."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.report.page import Histogram, ticks
from surd.pipeline.report.tallies import Series
from surd.schemas import Calibration, Corrected, ShuffledScores

_REPAIR = re.compile(
    r"(?s)(?P<group>[^:]{1,60}): (?P<old>.*?) -> (?P<new>.*?)(?: \((?P<scores>[-+.\d]+ -> [-+.\d]+)\))?"
)
_BINS = 44
#: What stands in a repair for a word that is not in the sentence.
UNSAID = "unsaid"
Words = list[tuple[str, bool]]


@dataclass
class Correction:
    """Counts over every pair that reached correct."""

    decisions: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    facts: int = 0
    repairs: int = 0

    def add(self, row: Corrected) -> None:
        decision = row.decision
        if decision is None:
            return
        self.decisions[decision] += 1
        self.facts += row.facts_checked or 0
        for repair in row.repairs or ():
            self.repairs += 1
            group, old, new, _ = parse_repair(repair)
            self.groups[group] += 1
            self.changes["added" if old == UNSAID else "left out" if new == UNSAID else "exchanged"] += 1


def parse_repair(repair: str) -> tuple[str, str, str, str]:
    """``count: two -> three (0.712 -> 0.834)`` as fact group, old and new word, and scores; a text of another shape as
    it is."""
    found = _REPAIR.fullmatch(repair)
    if found is None:
        return "other", repair[:60], "", ""
    return found["group"], found["old"], found["new"], found["scores"] or ""


def mark_changes(before: str, after: str) -> tuple[Words, Words]:
    """Both sentences as runs of words, each run with whether the other sentence lacks it."""
    old, new = before.split(), after.split()
    left: Words = []
    right: Words = []
    matcher = difflib.SequenceMatcher(None, [w.casefold() for w in old], [w.casefold() for w in new], autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        for words, side in ((old[old_from:old_to], left), (new[new_from:new_to], right)):
            if words:
                side.append((" ".join(words), kind != "equal"))
    return left, right


def repaired_entry(row: Corrected, key: str, complex_text: str, thumbnail: str | None, limit: int) -> dict[str, object]:
    """What the gallery shows of one repaired sample; every text is at most ``limit`` characters."""
    after = (row.worded_from or row.simple or "")[:limit]
    before = (row.before or "")[:limit]
    scores = dict(zip(row.candidates or (), row.candidate_scores or (), strict=False))
    old, new = mark_changes(before, after)
    return {
        "key": key,
        "thumbnail": thumbnail,
        "complex": complex_text,
        "before": old if before and before != after else [],
        "after": new if before and before != after else [(after, False)],
        "repairs": [parse_repair(repair[:limit]) for repair in (row.repairs or ())[:6]],
        "score_before": scores.get(row.before or ""),
        "score_after": scores.get(after, row.clip_simple),
    }


@dataclass(frozen=True)
class Scale:
    """One kind of prompt on the scale of its build: scores of true and of shuffled pairs, and where the line is."""

    kind: str
    bins: Histogram
    shuffled: ShuffledScores
    true_pairs: int
    under: int


def scales(calibration: Calibration | None, true: Mapping[str, Series]) -> list[Scale]:
    """Per kind of prompt that was measured: the share of true and of shuffled pairs in each bin of cosine.

    ``true``: the finite scores of the true pairs.
    """
    if calibration is None:
        return []
    found = []
    for kind in ("complex", "simple"):
        shuffled: ShuffledScores | None = getattr(calibration, kind)
        scores = true[kind]
        if shuffled and len(scores):
            line = shuffled.threshold
            under = sum(int((some < line).sum()) for some in scores.batches()) if line is not None else 0
            found.append(Scale(kind, _share_bins(shuffled, scores), shuffled, len(scores), under))
    return found


def _share_bins(shuffled: ShuffledScores, scores: Series) -> Histogram:
    """Percent per bin; the bins are whole numbers of the calibration's own, so that none of its counts is split."""
    step = shuffled.step
    first = round(shuffled.start / step)  # number of a bin, counted from the one that begins at 0
    numbers = Counter[int]()
    for some in scores.batches():
        numbers.update((np.floor((some - shuffled.start) / step).astype(int) + first).tolist())
    lowest, highest = min(first, *numbers), max(first + len(shuffled.counts), max(numbers) + 1)
    width = max(1, math.ceil((highest - lowest) / _BINS))
    bins = math.ceil((highest - lowest) / width)
    edges = [shuffled.start + (lowest - first + at * width) * step for at in range(bins + 1)]
    both = {
        "shuffled": _binned(zip(range(first, first + len(shuffled.counts)), shuffled.counts, strict=True)),
        "true": numbers,
    }
    shares = {}
    for name, counts in both.items():
        total = sum(counts.values())
        per_bin = Counter[int]()
        for number, count in counts.items():
            per_bin[(number - lowest) // width] += count
        shares[name] = [round(100 * per_bin[at] / total, 2) for at in range(bins)]
    return ticks(edges, shares, {"true": scores.median(), "shuffled": shuffled.quantiles["0.5"]})


def _binned(pairs: Iterable[tuple[int, int]]) -> Counter[int]:
    return Counter(dict(pairs))
