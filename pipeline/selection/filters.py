"""Filters of one's own: functions of other packages that look at a row of the score table and may reject it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.build.record_rows import record_rows
from surd.pipeline.tables import Tables
from surd.schemas.entry_points import FILTERS, Extension, extensions
from surd.schemas.errors import one_line

FIELD = "select.filters"
_FILTERED = pa.schema([("part", pa.int32()), ("key", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Filter:
    """A loaded filter: a row of the score table in, None or the reason of its rejection out."""

    extension: Extension
    function: Callable[[dict[str, Any]], str | None]

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why the row is rejected; None: it is not. Raises SurdError when the filter fails."""
        try:
            reason = self.function(dict(row))
        except Exception as error:  # whatever another package's function raises
            why = f"{type(error).__name__}: {one_line(error, 120)}"
            raise self.extension.fault(f"failed on the record {row['key']} ({why})") from error
        if reason is not None and not isinstance(reason, str):
            raise self.extension.fault(f"gave {reason!r:.80} for the record {row['key']}, not None or a text")
        return reason if reason is None else reason.strip() or self.extension.name


def load_filters(names: Sequence[str]) -> list[Filter]:
    """The filters of these names, in order. Raises SurdError where one is not installed or cannot be imported."""
    return [Filter(one, one.load()) for one in extensions(FILTERS, [*names], FIELD)]


def write_filtered(build: Build, filters: Sequence[Filter], tables: Tables) -> None:
    """Table ``filtered``: key and reason of what a filter rejects, of the rows that all stages before select kept.

    A table, because the verdicts are read more than once, and a filter is to be asked once.
    """
    with tables.writing("filtered", _FILTERED) as writer:
        for part in range(build.part_count() if filters else 0):
            for row in record_rows(build, part):
                if row["status"] == "kept":
                    found = next((reason for one in filters if (reason := one.reason(row)) is not None), None)
                    if found is not None:
                        writer.add({"part": part, "key": row["key"], "reason": found})


def filtered_parts(build: Build, tables: Tables) -> Iterator[dict[str, str]]:
    """Key -> why a filter rejects it, a partition after another."""
    groups = groupby(tables.rows("filtered"), itemgetter("part"))
    following = next(groups, None)
    for part in range(build.part_count()):
        reasons: dict[str, str] = {}
        if following and following[0] == part:
            reasons = {row["key"]: row["reason"] for row in following[1]}
            following = next(groups, None)
        yield reasons


def filter_notes(filters: Sequence[Filter]) -> list[str]:
    """What the rule of a selection says of its filters."""
    return [f"filter {one.extension.name} of {one.extension.version}" for one in filters]
