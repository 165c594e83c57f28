"""What stops one image from becoming a pair: a reason, and whether a later run may have more luck."""

from __future__ import annotations

from surd.schemas import Reason


class Rejected(Exception):
    """An image that will not become a pair, and why. ``transient``: worth asking again when the build is run again."""

    def __init__(self, reason: Reason, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.transient = transient
