"""Which decisions a run obeys.

Approve, edit and keep of one record add up: a person picks the twin, then corrects its sentence. Reject and withdraw
end what was decided about it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions.log import read_log
from surd.schemas import Decision, Reason
from surd.schemas.decision import DecisionVerdict

#: Verdicts of scores, of limits on the picture and of one's own filters, which a person who looked may overrule: of no
#: others, such as those on safety, damage, takedowns.
_BY_SCORE = (
    Reason.MISMATCH, Reason.BELOW_THRESHOLD, Reason.DUPLICATE_SEMANTIC, Reason.PICTURE_LIMIT, Reason.FILTERED,
)  # fmt: skip


@dataclass(frozen=True)
class InForce:
    """What holds of one record. ``reject``, ``approve`` and ``edit``: the decisions; ``keep``: its number in the log,
    of which the highest of a cluster wins."""

    reject: Decision | None = None
    approve: Decision | None = None
    edit: Decision | None = None
    keep: int | None = None

    @property
    def keeps(self) -> bool:
        """Whether thresholds do not apply to it: somebody has looked at it, or written its sentence."""
        return bool(self.approve or self.edit)

    @property
    def verdicts(self) -> list[str]:
        """The names of what holds."""
        return [name for name in ("reject", "approve", "keep", "edit") if getattr(self, name) is not None]


def in_force(build: Build) -> dict[str, InForce]:
    """Key -> what holds of it, of every record about which anything was decided, in the build or not."""
    return combined(read_log(build).decisions)


def combined(decisions: Iterable[Decision]) -> dict[str, InForce]:
    """Key -> what holds of it after these decisions, the oldest of which is first."""
    holds: dict[str, InForce] = {}
    for number, one in enumerate(decisions):
        before = holds.get(one.key, InForce())
        match one.verdict:
            case DecisionVerdict.WITHDRAW:
                holds.pop(one.key, None)
            case DecisionVerdict.REJECT:
                holds[one.key] = InForce(reject=one)
            case DecisionVerdict.APPROVE:
                holds[one.key] = replace(before, reject=None, approve=one)
            case DecisionVerdict.EDIT:
                holds[one.key] = replace(before, reject=None, edit=one)
            case DecisionVerdict.KEEP:
                holds[one.key] = replace(before, reject=None, keep=number)
    return holds


def is_overruled(reason: Reason, *, edit: bool) -> bool:
    """Whether a record that was rejected so is kept if somebody approves it, or (``edit``) writes its sentence."""
    return reason in _BY_SCORE or (edit and reason is Reason.NO_CANDIDATE)


def latest_keeps(holds: Mapping[str, InForce]) -> list[str]:
    """Keys of the records that stay of their duplicates, the latest decision first."""
    kept = {key: one.keep for key, one in holds.items() if one.keep is not None}
    return sorted(kept, key=kept.__getitem__, reverse=True)


def decided(holds: Mapping[str, InForce], verdicts: Iterable[str]) -> dict[str, Any]:
    """What a stage that obeys these verdicts depends on, as JSON; empty where nothing of the kind was decided."""
    wanted, basis = set(verdicts), dict[str, Any]()
    if "keep" in wanted and (keys := latest_keeps(holds)):
        basis["keep"] = keys
    words = {
        "reject": {key: one.reject.reason for key, one in holds.items() if one.reject},
        "approve": {key: None for key, one in holds.items() if one.approve},
        "edit": {key: one.edit.simple for key, one in holds.items() if one.edit},
    }
    return basis | {name: of_kind for name, of_kind in words.items() if name in wanted and of_kind}
