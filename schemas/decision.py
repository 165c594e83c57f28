"""What a person decided about one record: a line of ``decisions.jsonl``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

#: Characters of a reason and of a sentence. A line stays short enough to be written at once.
MAX_REASON, MAX_SENTENCE = 500, 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class DecisionVerdict(StrEnum):
    """What a person may decide. Values are stable."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    KEEP = "keep"
    WITHDRAW = "withdraw"


class Decision(BaseModel):
    """One line of ``decisions.jsonl``.

    ``approve``: the record is kept, whatever its scores; ``reject``: it is not, for ``reason``; ``edit``: ``simple`` is
    its simple prompt; ``keep``: of its duplicates, this one stays; ``withdraw``: nothing is decided any more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str = Field(pattern=r"^[0-9a-f]{16}$", description="Of the record, whether or not the build has it yet.")
    verdict: DecisionVerdict
    reason: str | None = Field(default=None, max_length=MAX_REASON, description="The person's words.")
    simple: str | None = Field(default=None, max_length=MAX_SENTENCE, description="The sentence of edit.")
    at: datetime = Field(default_factory=lambda: datetime.now(UTC), description="With its time zone, ISO 8601.")

    @field_validator("reason", "simple")
    @classmethod
    def _plain_text(cls, text: str | None) -> str | None:
        """On one line, without control characters, which no caption may have; None of one that says nothing."""
        return " ".join(_CONTROL.sub(" ", text).split()) or None if text else None

    @model_validator(mode="after")
    def _has_what_its_verdict_needs(self) -> Self:
        if (self.verdict is DecisionVerdict.EDIT) != (self.simple is not None):
            raise ValueError("edit has a sentence (simple), and no other verdict has one")
        if self.at.tzinfo is None:
            raise ValueError("at has no time zone")
        return self
