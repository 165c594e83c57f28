"""What a stage's models gave that could not be used: where it is most of it, the stage says so at its end."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from surd.pipeline.build.folder import Build, part_number
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.schemas import Status

_MOST = 0.5


@dataclass(frozen=True, kw_only=True)
class _Output:
    """The column of a stage's answers, the one of the reasons for those that lack, the reason where none is noted."""

    answers: str
    reasons: str
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
    names = [
        (part_number(name) or 0, name) for name in build.listdir(stage) if re.fullmatch(r"part-\d+\.parquet", name)
    ]
    for part, _ in sorted(names):
        rows = _asked(build, stage, part, output)
        asked += rows.num_rows
        lost_rows = rows.filter(pc.equal(pc.fill_null(pc.list_value_length(rows["answers"]), 0), 0))
        reasons.update(_kind(reason or output.reason) for reason in lost_rows["reasons"].to_pylist())
    lost = reasons.total()
    if not lost or lost < _MOST * asked:
        return None
    ((reason, count),) = reasons.most_common(1)
    return f"{stage}: {lost} of {asked} {output.unit}; the commonest reason ({count}): {reason}; {output.remedy}"


def _asked(build: Build, stage: str, part: int, output: _Output) -> pa.Table:
    """``answers`` and ``reasons`` of the rows whose model was asked; only these columns of the part are read."""
    there = set(columns_of(build, stage, part))  # an older build lacks the reasons
    table = read_columns(build, stage, part, ["status", output.answers, *({output.reasons} & there)])
    answers = table[output.answers]
    reasons = table[output.reasons] if output.reasons in there else pa.nulls(len(table), pa.string())
    has_reason = pc.not_equal(pc.fill_null(reasons, ""), "")
    asked = pc.and_(pc.equal(table["status"], Status.KEPT.value), pc.or_(pc.is_valid(answers), has_reason))
    return pa.table({"answers": answers, "reasons": reasons}).filter(asked)


def unusable_notes(build: Build) -> list[str]:
    """The sentences of all stages of a build."""
    return [note for stage in _OUTPUTS if (note := unusable_note(build, stage))]


def _kind(reasons: str) -> str:
    """The first of a row's reasons, without what is particular to the row."""
    return reasons.partition("; ")[0].partition(" (")[0]
