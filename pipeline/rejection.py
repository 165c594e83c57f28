"""The exception for an image that does not become a pair: its reason, and whether a later run may succeed."""

from __future__ import annotations

from surd.schemas import Reason


class Rejected(Exception):
    """An image that does not become a pair, and why. ``transient``: worth another try when the build is run again."""

    def __init__(self, reason: Reason, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.transient = transient
