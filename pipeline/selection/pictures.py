"""Limits on the picture itself (``select.picture``): its size and shape, and what score measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.schemas import BuildConfig, SelectionRule, SurdError
from surd.schemas.config import PictureLimits

FIELD = "select.picture"
#: Columns that are not measured: they follow from width and height.
_BY_SIZE = ("short_side", "aspect")
_WEIGHTS = ("watermark", "aesthetic")  # columns by weights that the config names


@dataclass(frozen=True)
class Limit:
    """One limit. ``name``: of the field, such as min_entropy, of the column ``entropy``."""

    name: str
    value: float

    @property
    def column(self) -> str:
        return self.name.partition("_")[2]

    def __str__(self) -> str:
        return f"{self.column} {'>=' if self.name.startswith('min_') else '<='} {self.value:g}"

    def unmet(self, value: float | None) -> str | None:
        """Why a picture does not meet it, as a person reads it; None: it does. What is not known never does."""
        if value is None:
            return f"{self.column} could not be measured, and {self} is asked for"
        meets = value >= self.value if self.name.startswith("min_") else value <= self.value
        return None if meets else f"{self.column} is {value:.4g}, not {str(self).partition(' ')[2]}"

    def remedy(self) -> str:
        """The setting that measures its column."""
        if self.column in _WEIGHTS:
            return f"score.{self.column} names the weights that measure it"
        return f'put "{self.column.replace("_", "-")}" into score.quality'


def limits_of(settings: PictureLimits) -> list[Limit]:
    """The limits that are set, in the order of the fields."""
    return [Limit(name, value) for name, value in settings.model_dump().items() if value is not None]


def limits_of_rule(rule: SelectionRule) -> list[Limit]:
    """Those of a selection that was made."""
    return limits_of(PictureLimits.model_validate(rule.settings.get("picture", {})))


def check_limits(config: BuildConfig) -> None:
    """Raises SurdError where a build will not measure what a limit asks about."""
    measured = {*_BY_SIZE, *(name.replace("-", "_") for name in config.score.quality)}
    measured |= {name for name in _WEIGHTS if getattr(config.score, name)}
    for limit in limits_of(config.select.picture):
        if limit.column not in measured:
            raise SurdError(
                f"{FIELD}.{limit.name} is {limit.value:g}, and {limit.column} is not measured: {limit.remedy()}"
            )


def check_measured(build: Build, limits: Sequence[Limit]) -> None:
    """Raises SurdError where no picture of a build has what a limit asks about."""
    left = {limit.column: limit for limit in limits if limit.column not in _BY_SIZE}
    parts = range(build.part_count()) if left else range(0)
    for part in parts:
        for column in columns_of(build, "score", part):
            left.pop(column, None)
    for limit in left.values():
        raise SurdError(
            f"{FIELD}.{limit.name} is {limit.value:g}, and {limit.column} was measured of no picture of {build.root}:"
            f" {limit.remedy()}; run surd build again"
        )


def beyond_limits(build: Build, limits: Sequence[Limit]) -> Iterator[list[str | None]]:
    """Why each picture is beyond a limit (None: it is not), a partition after another."""
    for part in range(build.part_count()):
        yield [
            next((why for limit in limits if (why := limit.unmet(row[limit.column])) is not None), None)
            for row in _measures(build, part, {limit.column for limit in limits})
        ]


def _measures(build: Build, part: int, columns: set[str]) -> list[dict[str, Any]]:
    """Of each row what the columns hold; None where it is not known."""
    rows: list[dict[str, Any]] = read_columns(build, "fetch", part, ["width", "height"]).to_pylist()
    for row in rows:
        width, height = row.pop("width"), row.pop("height")
        sides = (width, height) if width and height else None
        row["short_side"] = min(sides) if sides else None
        row["aspect"] = max(sides) / min(sides) if sides else None
    measured = sorted(columns.difference(_BY_SIZE))
    there = [name for name in measured if name in columns_of(build, "score", part)] if measured else []
    values = read_columns(build, "score", part, there).to_pylist() if there else [{}] * len(rows)
    for row, of_score in zip(rows, values, strict=True):
        row |= {name: of_score.get(name) for name in measured}
    return rows
