"""What a person decides in the viewer: appended to ``decisions.jsonl``, seen by searches at once, and taken back."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import append, read
from surd.pipeline.decisions.in_force import combined, in_force
from surd.pipeline.decisions.log import read_log
from surd.pipeline.view.table import Records
from surd.schemas import SurdError
from surd.schemas.decision import Decision, DecisionVerdict


class LiveDecisions:
    """The decisions of one build. Those made in this viewer can be undone, the last one first."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._lock = threading.Lock()
        self.decisions = read(build)
        self._undo: list[Decision] = []  # made here, the last one last

    def decide(self, given: dict[str, Any]) -> Decision:
        """Append a decision. Raises SurdError where it is not valid, or cannot be written."""
        allowed = {"key", "verdict", "reason", "simple"}
        try:
            decision = Decision.model_validate({name: value for name, value in given.items() if name in allowed})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "decision"
            raise SurdError(f"{field} is not valid ({first['msg']}); decide again") from None
        with self._lock:
            append(self._build, decision)
            self._undo.append(decision)
            self._remember(decision)
        return decision

    def undo(self) -> str | None:
        """Take back the last decision of this viewer: what held before is in force again. Returns its key.

        Raises SurdError where somebody has decided about the record since.
        """
        with self._lock:
            if not self._undo:
                return None
            undone = self._undo[-1]
            decisions = read_log(self._build).decisions
            last = max((number for number, one in enumerate(decisions) if one.key == undone.key), default=None)
            if last is None or decisions[last] != undone:
                self._undo.pop()
                raise SurdError(
                    f"undo would change what was decided about {undone.key} elsewhere since; look at the record and"
                    " decide again"
                )
            again = [Decision(key=undone.key, verdict=DecisionVerdict.WITHDRAW), *_to_write_again(decisions, undone)]
            append(self._build, *again)
            self._undo.pop()
            for decision in again:
                self._remember(decision)
            return undone.key

    def fill(self, records: Records) -> None:
        """Read the decisions again, which others may have added to, and write them into the table for searches."""
        with self._lock:
            self.decisions = read(self._build)
            holds = in_force(self._build)
            rows = [_row(one, keeps=holds[one.key].keeps) for one in self.decisions.values()]
            cursor = records.cursor()
            cursor.execute("BEGIN")
            cursor.execute("DELETE FROM decision")
            if rows:
                cursor.executemany("INSERT INTO decision VALUES (?, ?, ?, ?, ?)", rows)
            cursor.execute("COMMIT")

    def store(self, records: Records, key: str) -> None:
        """Write the decision on one record, or that there is none, into the table that searches read."""
        with self._lock:
            one = self.decisions.get(key)
            cursor = records.cursor()
            cursor.execute("BEGIN")
            cursor.execute("DELETE FROM decision WHERE key = ?", [key])
            if one:
                about = (each for each in read_log(self._build).decisions if each.key == key)
                row = _row(one, keeps=combined(about)[key].keeps)
                cursor.execute("INSERT INTO decision VALUES (?, ?, ?, ?, ?)", row)
            cursor.execute("COMMIT")

    def of(self, key: str) -> dict[str, Any] | None:
        """The decision on a record, as the page shows it."""
        one = self.decisions.get(key)
        return one.model_dump(mode="json") if one else None

    def _remember(self, decision: Decision) -> None:
        self.decisions.pop(decision.key, None)
        if decision.verdict is not DecisionVerdict.WITHDRAW:
            self.decisions[decision.key] = decision


def _row(decision: Decision, *, keeps: bool) -> list[Any]:
    """Of the table that searches read; ``keeps``: by what was decided before too."""
    return [decision.key, decision.verdict.value, decision.reason, decision.simple, keeps]


def _to_write_again(decisions: list[Decision], undone: Decision) -> list[Decision]:
    """What held of a record when a decision about it was made, in the order in which it was decided.

    Where it stays of its duplicates, later ones that stay of theirs come behind it again: the latest of a cluster wins.
    """
    before = decisions[: decisions.index(undone)]
    holds = combined(before).get(undone.key)
    if holds is None:
        return []
    again = {before.index(one) for one in (holds.reject, holds.approve, holds.edit) if one}
    if (kept := holds.keep) is not None:
        others = (of.keep for key, of in combined(decisions).items() if key != undone.key)
        again |= {kept, *(number for number in others if number is not None and number > kept)}
    return [decisions[number] for number in sorted(again)]
