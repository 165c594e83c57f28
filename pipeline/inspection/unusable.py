"""What a stage's models gave that could not be used: where it is most of it, the stage says so at its end."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from surd.pipeline.build.folder import Build, part_number
from surd.schemas import Status

_MOST = 0.5


@dataclass(frozen=True, kw_only=True)
class _Output:
    """The column of a stage's answers, the one of the reasons for those that lack (None: ``reason`` holds for all)."""

    answers: str
    reasons: str | None
    reason: str
    unit: str
    remedy: str


_OUTPUTS = {
    "caption": _Output(
        answers="captions",
        reasons="caption_dropped",
        reason="the captioner gave no text",
        unit="pictures got no caption",
        remedy="name another models.captioner",
    ),
    "rewrite": _Output(
        answers="rewrites",
        reasons="rewrite_dropped",
        reason="no reason was noted",
        unit="prompts got no usable sentence",
        remedy="name another models.llm, or switch it off: rewrite.enabled=false",
    ),
}


def unusable_note(build: Build, stage: str) -> str | None:
    """One sentence where at least half of what a stage's model answered is unusable, with the commonest reason."""
    output = _OUTPUTS.get(stage)
    if output is None:
        return None
    asked, reasons = 0, Counter[str]()
    columns = [name for name in ("status", output.answers, output.reasons) if name]
    names = [
        (part_number(name) or 0, name) for name in build.listdir(stage) if re.fullmatch(r"part-\d+\.parquet", name)
    ]
    for _, name in sorted(names):
        table = build.read_table(f"{stage}/{name}")  # an older build may lack a column
        for row in table.select([name for name in columns if name in table.column_names]).to_pylist():
            answers = row[output.answers]
            if row["status"] != Status.KEPT or (answers is None and not row.get(output.reasons or "")):
                continue
            asked += 1
            if not answers:
                reasons[_kind(row.get(output.reasons or "") or output.reason)] += 1
    lost = reasons.total()
    if not lost or lost < _MOST * asked:
        return None
    ((reason, count),) = reasons.most_common(1)
    return f"{stage}: {lost} of {asked} {output.unit}; the commonest reason ({count}): {reason}; {output.remedy}"


def unusable_notes(build: Build) -> list[str]:
    """The sentences of all stages of a build."""
    return [note for stage in _OUTPUTS if (note := unusable_note(build, stage))]


def _kind(reasons: str) -> str:
    """The first of a row's reasons, without what is particular to the row."""
    return reasons.partition("; ")[0].partition(" (")[0]
