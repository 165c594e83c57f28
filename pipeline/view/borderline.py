"""The records nearest to a select threshold on either side, and how many records another threshold would keep."""

from __future__ import annotations

from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import temporary
from surd.pipeline.selection.choose import choose, read_rule
from surd.pipeline.view.queries import Queries
from surd.schemas import BuildConfig, SurdError

COLUMNS = {"simple": "score.simple", "complex": "score.complex"}
#: What correct left, which is what select decides about.
_JUDGED = "reached IN ('correct', 'select') AND (stage IS NULL OR stage = 'select')"


def thresholds(build: Build, config: BuildConfig) -> dict[str, float]:
    """``simple`` and ``complex``: the least score that the build's own selection asks for."""
    least = {"simple": config.select.min_clip_simple, "complex": config.select.min_clip_complex}
    rule = read_rule(build)
    for one in rule.thresholds if rule else ():
        name = one.column.removeprefix("clip_")
        least[name] = max(least[name], one.least)
    return least


def kept_at(queries: Queries, least: dict[str, float]) -> int:
    """How many records ``surd select`` keeps with these thresholds, and by hand: approved, edited and rejected ones.

    Before semantic duplicates go, and limits on the picture and filters of one's own are asked, where the config has
    them: see ``kept_exactly``.
    """
    meets = " AND ".join(f'record."{COLUMNS[name]}" >= ?' for name in COLUMNS)
    sql = f"""SELECT count(*) FROM record LEFT JOIN decision USING (key) WHERE {_JUDGED}
        AND (({meets}) OR decision.keeps) AND decision.verdict IS DISTINCT FROM 'reject'"""
    rows = queries.records.cursor().execute(sql, [least[name] for name in COLUMNS]).fetchall()
    return int(rows[0][0])


def kept_exactly(build: Build, config: BuildConfig, least: dict[str, float], clip: str) -> int:
    """As ``kept_at``, by selection itself, which also compares the embeddings of what is left."""
    rule = {"min_clip_simple": least["simple"], "min_clip_complex": least["complex"]}
    rates = {"false_match_rate_simple": None, "false_match_rate_complex": None}
    with temporary("view") as tables:
        selection = choose(build, config.select.model_copy(update=rule | rates), clip, tables)
        return sum(row.kept for rows in selection.rows() for row in rows)


def borderline(queries: Queries, least: dict[str, float], by: str, count: int) -> dict[str, Any]:
    """The ``count`` nearest records on either side of the threshold on ``by``. Raises SurdError."""
    if by not in COLUMNS:
        raise SurdError(f"by is {by!r}: not simple or complex; choose one of them")
    column, sides = f'"{COLUMNS[by]}"', {}
    for side, sign, order in (("above", ">=", "ASC"), ("below", "<", "DESC")):
        sql = f"""SELECT rowid FROM record WHERE {_JUDGED} AND {column} {sign} ?
            ORDER BY {column} {order}, rowid LIMIT ?"""
        found = queries.records.cursor().execute(sql, [least[by], count]).fetchall()
        sides[side] = queries.cards([place for (place,) in found])
    low, high, judged = queries.records.cursor().execute(
        f"SELECT min({column}), max({column}), count(*) FROM record WHERE {_JUDGED}"
    ).fetchall()[0]  # fmt: skip
    return {**sides, "low": low, "high": high, "judged": judged, "histogram": _histogram(queries, column, low, high)}


def _histogram(queries: Queries, column: str, low: float | None, high: float | None, bins: int = 60) -> list[int]:
    counts = [0] * bins
    if low is not None and high is not None:
        step = (high - low) / bins or 1.0
        sql = f"""SELECT least({bins - 1}, CAST(floor(({column} - ?) / ?) AS INTEGER)), count(*) FROM record
            WHERE {_JUDGED} AND {column} IS NOT NULL GROUP BY 1"""
        for bin_, n in queries.records.cursor().execute(sql, [low, step]).fetchall():
            counts[bin_] = n
    return counts
