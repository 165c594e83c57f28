"""How whoever shows progress is told how much is done of what a model was asked."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the number of questions (texts, pictures) that are done, of those it was not told of before.
OnDone = Callable[[int], object]


def uncounted(count: int) -> None:
    """The OnDone of those who show no progress."""
