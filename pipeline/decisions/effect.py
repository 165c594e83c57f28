"""What a decision cannot do, said when it is made: a record that is unsafe or damaged stays rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import read_columns
from surd.pipeline.decisions.in_force import is_overruled
from surd.schemas import Decision, Reason
from surd.schemas.decision import DecisionVerdict

#: Stages whose rows tell where a record stands, the last first.
_STAGES = ("select", "correct", "safety", "dedup", "clean", "fetch", "collect")
_DUPLICATES = (Reason.DUPLICATE_BYTES, Reason.DUPLICATE_IMAGE, Reason.DUPLICATE_PROMPT, Reason.DUPLICATE_SEMANTIC)
_WITHOUT = (DecisionVerdict.REJECT, DecisionVerdict.WITHDRAW)


def caveats(build: Build, decisions: Sequence[Decision]) -> Iterator[tuple[str, str]]:
    """Key and sentence of each decision that the next run cannot obey, or not yet; the rows are as the last run left
    them."""
    wanted = {one.key: one for one in decisions}
    rows = {row["key"]: row for row in _rows(build, set(wanted))}
    for key, decision in wanted.items():
        row = rows.get(key)
        if row is None:
            if decision.verdict is not DecisionVerdict.WITHDRAW:
                yield key, f"{key} is not in the build yet: a run that brings it obeys the decision"
        elif decision.verdict not in _WITHOUT and row["reason"] is not None:
            reason, keeps = Reason(row["reason"]), decision.verdict is DecisionVerdict.KEEP
            if is_overruled(reason, edit=decision.verdict is DecisionVerdict.EDIT):
                continue
            if keeps and reason in _DUPLICATES:
                continue
            remedy = "; of duplicates choose one with keep" if reason in _DUPLICATES else ""
            yield (
                key,
                (
                    f"{key} is rejected by {row['rejected_by']} as {reason} ({reason.meaning}):"
                    f" {decision.verdict} does not undo this{remedy}"
                ),
            )


def _rows(build: Build, keys: set[str]) -> Iterator[dict[str, Any]]:
    for part in range(build.part_count()):
        stage = next((name for name in _STAGES if build.exists(part_file(name, part))), None)
        if stage:
            for row in read_columns(build, stage, part, ["key", "reason", "rejected_by"]).to_pylist():
                if row["key"] in keys:
                    yield row
