"""What a person decides in the viewer: appended to ``decisions.jsonl``, seen by searches at once, and taken back."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import append, read
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
        self._undo: list[tuple[str, list[Decision]]] = []  # key, and what had been decided about it before

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
            before = [one for one in read_log(self._build).decisions if one.key == decision.key]
            append(self._build, decision)
            self._undo.append((decision.key, before))
            self._remember(decision)
        return decision

    def undo(self) -> str | None:
        """Take back the last decision of this viewer: those before it are in force again. Returns its key."""
        with self._lock:
            if not self._undo:
                return None
            key, before = self._undo.pop()
            # Verdicts on one record add up, so those before it are written again behind a withdrawal.
            again = [Decision(key=key, verdict=DecisionVerdict.WITHDRAW), *before]
            append(self._build, *again)
            for decision in again:
                self._remember(decision)
            return key

    def fill(self, records: Records) -> None:
        """Read the decisions again, which others may have added to, and write them into the table for searches."""
        with self._lock:
            self.decisions = read(self._build)
            rows = [(one.key, one.verdict.value, one.reason, one.simple) for one in self.decisions.values()]
            cursor = records.cursor()
            cursor.execute("BEGIN")
            cursor.execute("DELETE FROM decision")
            if rows:
                cursor.executemany("INSERT INTO decision VALUES (?, ?, ?, ?)", rows)
            cursor.execute("COMMIT")

    def store(self, records: Records, key: str) -> None:
        """Write the decision on one record, or that there is none, into the table that searches read."""
        with self._lock:
            one = self.decisions.get(key)
            cursor = records.cursor()
            cursor.execute("BEGIN")
            cursor.execute("DELETE FROM decision WHERE key = ?", [key])
            if one:
                row = [one.key, one.verdict.value, one.reason, one.simple]
                cursor.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", row)
            cursor.execute("COMMIT")

    def of(self, key: str) -> dict[str, Any] | None:
        """The decision on a record, as the page shows it."""
        one = self.decisions.get(key)
        return one.model_dump(mode="json") if one else None

    def _remember(self, decision: Decision) -> None:
        self.decisions.pop(decision.key, None)
        if decision.verdict is not DecisionVerdict.WITHDRAW:
            self.decisions[decision.key] = decision
