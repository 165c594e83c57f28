"""Sentences whose facts were repaired: the fact, what it was and is, the evidence, and both sentences marked."""

from __future__ import annotations

from typing import Any

from surd.pipeline.report.correction import parse_repair, repaired_entry
from surd.pipeline.view.queries import Queries
from surd.schemas import Corrected

_LONG = 2000
_COLUMNS = ("key", "simple", "before", "repairs", "worded_from", "clip_simple", "candidates", "candidate_scores")


def corrections(queries: Queries, query: str, start: int, count: int) -> dict[str, Any]:
    """How many repaired sentences the query finds, and some of them. Raises SurdError."""
    order = queries.order(f"{query} repairs:>0".strip(), "")
    cards = queries.cards(order[start : start + count].tolist())
    rows = {row["key"]: row for row in _rows(queries, [card["key"] for card in cards])}
    entries = []
    for card in cards:
        row = Corrected.model_construct(**rows.get(card["key"], {}))
        entry = repaired_entry(row, card["key"], card["complex"] or "", None, _LONG)
        entries.append({**{name: entry[name] for name in entry if name != "thumbnail"}, "card": card})
    return {"total": len(order), "entries": entries}


def repaired_kinds(queries: Queries) -> list[list[Any]]:
    """(kind of fact, repairs of it), the most frequent first."""
    sql = f"SELECT split_part(unnest(repairs), ': ', 1) AS kind, count(*) FROM {queries.records.relation('correct')}"
    sql += " WHERE repairs IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12"
    return [[parse_repair(f"{kind}: x -> y")[0], n] for kind, n in queries.records.cursor().execute(sql).fetchall()]


def _rows(queries: Queries, keys: list[str]) -> list[dict[str, Any]]:
    if not keys:
        return []
    marks = ", ".join("?" for _ in keys)
    names = ", ".join(_COLUMNS)
    return queries.rows(f"SELECT {names} FROM {queries.records.relation('correct')} WHERE key IN ({marks})", [*keys])
