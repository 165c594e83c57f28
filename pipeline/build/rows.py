"""The rows of a map stage: begun with the verdicts of the stage before, then filled in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from surd.schemas import Reason, Row

R = TypeVar("R", bound=Row)
T = TypeVar("T")


class StageRows(Generic[R]):
    """One partition's rows of a stage, in the order of the records; ``kept`` are the places still kept before it."""

    def __init__(self, model: type[R], before: Sequence[Row]) -> None:
        self.rows = [model(**row.verdict()) for row in before]
        self.kept = [at for at, row in enumerate(before) if row.kept]
        self._columns = model.model_fields.keys()

    def set(self, at: int, **values: Any) -> None:
        """Fill columns of the row at a place. Raises KeyError for a name that is not a column of the stage."""
        if unknown := values.keys() - self._columns:
            raise KeyError(f"{sorted(unknown)} are not columns of {type(self.rows[at]).__name__}")
        self.rows[at] = self.rows[at].model_copy(update=values)

    def reject(self, at: int, stage: str, reason: Reason, detail: str | None = None) -> None:
        """Reject the row at a place."""
        self.rows[at] = self.rows[at].reject(stage, reason, detail)

    def of_kept(self, values: Sequence[T]) -> list[T]:
        """Those of ``values``, one a row, whose rows are kept."""
        return [values[at] for at in self.kept]

    def fill(self, column: str, values: Iterable[Any]) -> None:
        """Fill one column of the kept rows, in their order."""
        for at, value in zip(self.kept, values, strict=True):
            self.set(at, **{column: value})
