"""Verdicts on the records of a build, given the truth of the demo world: what was caught, what was lost."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.demo.world.defects import KINDS, DefectKind
from tests.bench.facts import is_true

BEFORE_DEDUP = ("collect", "fetch", "decode", "clean")
SAME_PICTURE = KINDS["exact_duplicate"].reasons
FACTS = ("subject", "count", "background", "style", "tint", "action", "relation", "other")
#: No kept prompt may be longer than this.
LONGEST = 4000


@dataclass(frozen=True, kw_only=True)
class Record:
    """One source record: the truth about it and its outcome. `scored`: CLIP has scored it; `simple` is the result of
    semantic correction and `before` the sentence before repairs."""

    id: str
    truth: Mapping[str, Any]
    kept: bool
    reason: str | None
    rejected_by: str | None
    detail: str | None
    scored: bool
    clip_complex: float | None
    complex: str | None
    simple: str | None
    before: str | None
    decision: str | None

    @property
    def kind(self) -> DefectKind | None:
        """The rule for its planted defect; None for a sound record."""
        return KINDS[self.truth["defect"]] if self.truth["defect"] else None

    @property
    def sound(self) -> bool:
        return self.kind is None or self.kind.must == "keep"


def read_truth(path: Path) -> dict[str, dict[str, Any]]:
    """Source id -> truth."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {str(row["id"]): row for row in rows}


def read_records(root: str, truths: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """Every record of a build with its truth. Raises KeyError if the truth lacks a record of the build."""
    build = Build(root)
    columns = {
        "collect": ["source_id"],
        "clean": ["complex"],
        "score": ["status", "clip_complex"],
        "correct": ["simple", "before", "decision"],
        "select": ["status", "reason", "rejected_by", "detail"],
    }
    records = []
    for part in range(build.part_count()):
        collect, clean, score, correct, select = (_rows(build, stage, part, columns[stage]) for stage in columns)
        for collected, cleaned, scored, corrected, selected in zip(collect, clean, score, correct, select, strict=True):
            records.append(Record(
                id=collected["source_id"], truth=truths[collected["source_id"]], kept=selected["status"] == "kept",
                reason=selected["reason"], rejected_by=selected["rejected_by"], detail=selected["detail"],
                scored=scored["status"] == "kept", clip_complex=scored["clip_complex"], complex=cleaned["complex"],
                simple=corrected["simple"], before=corrected["before"] or corrected["simple"],
                decision=corrected["decision"],
            ))  # fmt: skip
    return records


def _rows(build: Build, stage: str, part: int, columns: list[str]) -> list[dict[str, Any]]:
    return build.read_table(part_file(stage, part), columns=columns).to_pylist()


@dataclass(frozen=True)
class Score:
    """Results of one kind: records planted, those handled as the kind requires, and all outcomes."""

    planted: int
    handled: int
    outcomes: Counter[str]

    @property
    def share(self) -> float | None:
        return self.handled / self.planted if self.planted else None


def score_kinds(records: Iterable[Record]) -> dict[str, Score]:
    """Kind -> its score, in the order of KINDS."""
    by_kind: dict[str, list[Record]] = defaultdict(list)
    for record in (records := list(records)):
        if record.truth["defect"]:
            by_kind[record.truth["defect"]].append(record)
    missed = _missed_copies(records)
    return {
        name: Score(
            len(by_kind[name]),
            sum(_handled(record, missed) for record in by_kind[name]),
            Counter("kept" if record.kept else str(record.reason) for record in by_kind[name]),
        )
        for name in KINDS
    }


def _handled(record: Record, missed_copies: set[str]) -> bool:
    kind = record.kind
    assert kind is not None, "only a defect can be handled"
    if kind.must == "once":
        return record.id not in missed_copies
    if kind.must == "keep":
        return record.kept
    if kind.must == "reject":
        return not record.kept and (not kind.reasons or record.reason in kind.reasons)
    if not record.kept:
        return True
    if kind.must == "clean":
        return not payload_left(record)
    return is_true(str(record.simple), record.truth) and len(str(record.complex)) <= LONGEST


def payload_left(record: Record) -> list[str]:
    """Words of the payload in a kept row's prompts, punctuation aside."""
    left = f" {_words(record.complex)} {_words(record.simple)} "
    return [words for words in record.truth["payload"] if f" {_words(words)} " in left]


def _words(text: str | None) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", (text or "").lower()))


def _missed_copies(records: list[Record]) -> set[str]:
    """Copies that were not removed: of each cluster all but one must be rejected as duplicates."""
    missed = set()
    for cluster in _clusters(records).values():
        remaining = [one for one in cluster if one.reason not in SAME_PICTURE and one.rejected_by not in BEFORE_DEDUP]
        copies = [one.id for one in remaining if one.truth["original"]]
        missed |= set(copies[: max(0, len(remaining) - 1)])
    return missed


def _clusters(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Id of an original -> it and its copies."""
    clusters: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        clusters[str(record.truth["original"] or record.id)].append(record)
    return {id: cluster for id, cluster in clusters.items() if len(cluster) > 1}


def lost(records: list[Record]) -> tuple[list[Record], int]:
    """(sound records wrongly rejected, number of sound ones merged with a kept sample of the same facts). An original
    is not lost if a copy of it is kept."""
    clusters = _clusters(records)
    kept_facts = Counter(facts_key(record.truth) for record in records if record.kept)
    wrongly_rejected, merged = [], 0
    for record in records:
        if not record.sound or record.kept:
            continue
        if record.reason in SAME_PICTURE:
            if any(one.reason not in SAME_PICTURE for one in clusters.get(record.id, ()) if one is not record):
                continue
            if kept_facts[facts_key(record.truth)]:
                merged += 1
                continue
        wrongly_rejected.append(record)
    return wrongly_rejected, merged


def facts_key(truth: Mapping[str, Any]) -> tuple[Any, ...]:
    """The facts by which two pictures show the same."""
    return tuple(truth[name] for name in FACTS)
