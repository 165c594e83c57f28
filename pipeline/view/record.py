"""Everything known of one record, as its panel shows it: texts cut to size, no secret in an address, no odd link."""

from __future__ import annotations

import math
from typing import Any

from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.report.entries import web_link
from surd.pipeline.view.clusters import KINDS
from surd.pipeline.view.fields import ROWS
from surd.pipeline.view.queries import Queries
from surd.schemas import Reason, Row

_LONG, _MANY = 20_000, 200  # characters of a text, entries of a list


def record_of(queries: Queries, key: str) -> dict[str, Any] | None:
    """A record's card, each stage's columns, its twins and its links; None without such a record."""
    where = queries.find(key)
    if where is None:
        return None
    rows = queries.records.rows_of(key, where["part"])
    card = queries.cards([where["place"]])[0]
    collected, fetched = rows.get("collect", {}), rows.get("fetch", {})
    for row in (collected, fetched):
        if row.get("url"):
            row["url"] = redact_secrets(row["url"])
    common = set(Row.model_fields)
    stages = {
        stage: {name: shown(value) for name, value in row.items() if name not in common and value not in (None, "", [])}
        for stage, row in rows.items()
    }
    reason = card["reason"]
    return {
        **card,
        "place": where["place"],
        "part": where["part"],
        "ext": where["ext"],
        "texts": {
            "simple": shown(rows.get("correct", {}).get("simple")),
            "complex": shown(rows.get("clean", {}).get("complex")),
            "prompt": shown(fetched.get("prompt") or collected.get("prompt")),
            "negative": shown(fetched.get("negative_prompt") or collected.get("negative_prompt")),
        },
        "detail": shown(card["detail"]),
        "meaning": Reason(reason).meaning if reason in set(Reason) else None,
        "links": {"page": web_link(collected.get("page_url")), "image": web_link(collected.get("url"))},
        "stages": {stage: stages[stage] for stage in ROWS if stages.get(stage)},
        "twins": _twins(queries, key),
        "beside": _beside(queries, key),
    }


def shown(value: Any) -> Any:
    """A value as JSON can hold it and a person can read it."""
    if isinstance(value, str):
        more = f" … [{len(value) - _LONG:,} more characters]" if len(value) > _LONG else ""
        return value[:_LONG] + more
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [shown(one) for one in value[:_MANY]]
    return value


def _twins(queries: Queries, key: str) -> list[dict[str, Any]]:
    """The clusters of more than one record that this one is in, with the record that stands for each."""
    found = []
    for kind, name in KINDS.items():
        sql = f"""SELECT "{name}" AS cluster, count(*) AS count FROM record
            WHERE "{name}" = (SELECT "{name}" FROM record WHERE key = ?) GROUP BY 1 HAVING count(*) > 1"""
        for row in queries.rows(sql, [key]):
            sql = f'SELECT key FROM record WHERE "{name}" = ? AND key <> ? ORDER BY key <> "{name}", rowid LIMIT 12'
            others = [one["key"] for one in queries.rows(sql, [row["cluster"], key])]
            found.append({"kind": kind, "field": name, **row, "others": others})
    return found


def _beside(queries: Queries, key: str) -> dict[str, Any] | None:
    rows = queries.rows("SELECT status, reason, simple, changed FROM beside WHERE key = ?", [key])
    return {name: shown(value) for name, value in rows[0].items()} if rows else None
