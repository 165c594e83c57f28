"""How two builds judge the same records: which kept what, and which sentences changed."""

from __future__ import annotations

from typing import Any

from surd.pipeline.view.queries import Queries


def comparison(queries: Queries) -> dict[str, Any]:
    """Counts of (status, reason here; status, reason there), the records of one build alone, and changed sentences."""
    cursor = queries.records.cursor()
    sql = """SELECT record.status, record.reason, beside.status, beside.reason, count(*) FROM record
        JOIN beside USING (key) GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3, 4"""
    pairs = [list(row) for row in cursor.execute(sql).fetchall()]
    only = cursor.execute(
        "SELECT (SELECT count(*) FROM record ANTI JOIN beside USING (key)),"
        " (SELECT count(*) FROM beside ANTI JOIN record USING (key)),"
        " (SELECT count(*) FROM beside JOIN record USING (key) WHERE changed AND record.status = 'kept'"
        "  AND beside.status = 'kept')"
    ).fetchall()[0]
    return {"pairs": pairs, "only_here": only[0], "only_there": only[1], "changed": only[2]}
