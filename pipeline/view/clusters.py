"""Clusters of like records: by picture, by prompt, by meaning; the largest first, their members side by side."""

from __future__ import annotations

from typing import Any

from surd.pipeline.view.queries import Queries
from surd.schemas import SurdError

KINDS = {"image": "cluster", "prompt": "prompt_cluster", "semantic": "like"}
_MEMBERS = 12  # of a cluster, in the list of clusters


def clusters(queries: Queries, kind: str, query: str, start: int, count: int) -> dict[str, Any]:
    """How many clusters have more than one member that the query finds, and some of them. Raises SurdError."""
    if kind not in KINDS:
        raise SurdError(f"kind is {kind!r}: not image, prompt or semantic; choose one of them")
    where = queries.condition(query)
    column = f'"{KINDS[kind]}"'
    groups = f"""SELECT {column} AS cluster, count(*) AS n FROM record
        WHERE {column} IS NOT NULL AND {where.sql} GROUP BY 1 HAVING n > 1"""
    cursor = queries.records.cursor()
    total, members = cursor.execute(f"SELECT count(*), sum(n) FROM ({groups})", where.parameters).fetchall()[0]
    some = cursor.execute(
        f"{groups} ORDER BY n DESC, cluster LIMIT ? OFFSET ?", [*where.parameters, count, start]
    ).fetchall()
    found = []
    for cluster, n in some:
        sql = f"""SELECT rowid FROM record WHERE {column} = ?
            ORDER BY key <> {column}, distance NULLS LAST, similarity DESC NULLS LAST, rowid LIMIT {_MEMBERS}"""
        places = [place for (place,) in cursor.execute(sql, [cluster]).fetchall()]
        found.append({"cluster": cluster, "count": n, "cards": queries.cards(places)})
    return {"total": total, "members": int(members or 0), "field": KINDS[kind], "clusters": found}
