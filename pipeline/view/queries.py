"""Which records a query finds, a page of them, and how they divide: the questions that the page asks of the table."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.pipeline.view.fields import FACETS, FIELDS, ROWS, fields_of
from surd.pipeline.view.search import Condition, condition
from surd.pipeline.view.table import Records
from surd.schemas import Reason, SurdError

PAGE = 200  # records of a page at most
_REMEMBERED = 24  # results whose order is kept
_LONG = 400  # characters of a text on a card
_FACET_VALUES = 12
#: What a card shows.
CARD = (
    "key", "status", "reason", "stage", "width", "height", "picture", "veiled", "method", "score.simple",
    "score.complex", "gain", "repairs", "nsfw", "sharpness", "author", "licence", "cluster", "like",
)  # fmt: skip
_TEXTS = ("simple", "complex", "prompt", "detail")
_CARD_SQL = ", ".join(
    [*(f'record."{name}"' for name in CARD), *(f'left(record."{name}", {_LONG}) AS "{name}"' for name in _TEXTS)]
)
Rows = list[dict[str, Any]]


class Queries:
    """Answers about one table of records; what decisions a search sees is up to ``forget_results``."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._results: OrderedDict[tuple[str, str], npt.NDArray[np.int64]] = OrderedDict()
        self._lock, self._computing = threading.Lock(), threading.Lock()

    def condition(self, query: str) -> Condition:
        return condition(query, self.records.relation)

    def forget_results(self) -> None:
        """To be called when decisions change: searches may find other records now."""
        with self._lock:
            self._results.clear()

    def order(self, query: str, sort: str) -> npt.NDArray[np.int64]:
        """The places (rowid) of the records that a query finds, in the order asked for. Raises SurdError."""
        with self._lock:
            if (query, sort) in self._results:
                self._results.move_to_end((query, sort))
                return self._results[query, sort]
        with self._computing:  # the page asks for cards and for counts at once: the second waits for the first
            with self._lock:
                if (query, sort) in self._results:
                    return self._results[query, sort]
            where = self.condition(query)
            sql = f"SELECT rowid FROM record WHERE {where.sql} ORDER BY {order_of(sort)}"
            found = self.records.cursor().execute(sql, where.parameters).fetchnumpy()["rowid"]
            order = np.asarray(found, np.int64)
            with self._lock:
                self._results[query, sort] = order
                while len(self._results) > _REMEMBERED:
                    self._results.popitem(last=False)
            return order

    def page(self, query: str, sort: str, start: int, count: int) -> Rows:
        """The cards of some neighbouring records of a result."""
        places = self.order(query, sort)[max(0, start) : max(0, start) + min(count, PAGE)]
        return self.cards(places.tolist())

    def cards(self, places: list[int]) -> Rows:
        """The cards of the records at these places, in that order."""
        if not places:
            return []
        # A range where they are neighbours: DuckDB then reads only the blocks in it.
        low, high = min(places), max(places)
        sql = f"SELECT record.rowid AS place, {_CARD_SQL} FROM record WHERE record.rowid BETWEEN {low} AND {high}"
        if high - low >= len(places):
            sql += f" AND record.rowid IN ({', '.join(map(str, places))})"
        rows = {row["place"]: row for row in self.rows(sql)}
        return [rows[place] for place in places]

    def rows(self, sql: str, parameters: list[Any] | None = None) -> Rows:
        """Rows as dicts."""
        cursor = self.records.cursor().execute(sql, parameters or [])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def find(self, key: str) -> dict[str, Any] | None:
        """Where a record's picture lies and whether it is veiled; None without such a record."""
        columns = 'rowid AS place, part, "offset", size, sha256, ext, picture, veiled, nsfw'
        found = self.rows(f"SELECT {columns} FROM record WHERE key = ?", [key])
        return found[0] if found else None

    def count(self, query: str) -> int:
        where = self.condition(query)
        rows = self.records.cursor().execute(f"SELECT count(*) FROM record WHERE {where.sql}", where.parameters)
        return int(rows.fetchall()[0][0])

    def facets(self, query: str) -> dict[str, list[list[Any]]]:
        """Field -> its most frequent values among what a query finds, with their counts; all in one pass."""
        own = [name for name in FACETS if fields_of(name)[0].relation == "record"]
        columns = ", ".join(f'"{name}"' for name in own)
        sets = ", ".join(f'("{name}")' for name in own)
        cursor, found = self._found(query)
        sql = f"""
            SELECT which, value, n FROM (
                SELECT grouping_id({columns}) AS which, coalesce({columns}) AS value, count(*) AS n
                FROM record {found} GROUP BY GROUPING SETS ({sets})
            ) QUALIFY row_number() OVER (PARTITION BY which ORDER BY n DESC, value) <= {_FACET_VALUES}
            ORDER BY which, n DESC, value"""
        names = {(1 << len(own)) - 1 - (1 << (len(own) - 1 - at)): name for at, name in enumerate(own)}
        facets: dict[str, list[list[Any]]] = {name: [] for name in FACETS}
        for which, value, count in cursor.execute(sql).fetchall():
            facets[names[which]].append([value, count])
        sql = f"SELECT verdict, count(*) FROM decision JOIN record USING (key) {found} GROUP BY 1 ORDER BY 2 DESC"
        facets["decision"] = [list(row) for row in cursor.execute(sql).fetchall()]
        return {name: values for name, values in facets.items() if any(row[0] is not None for row in values)}

    def _found(self, query: str) -> tuple[duckdb.DuckDBPyConnection, str]:
        """A cursor, and SQL that joins the table ``record`` with what a query finds, which is asked for once."""
        cursor = self.records.cursor()
        if self.condition(query).all:
            return cursor, ""
        with self._lock:
            known = next((order for (asked, _), order in self._results.items() if asked == query), None)
        order = self.order(query, "") if known is None else known
        cursor.register("found", pa.table({"place": order}))
        return cursor, "JOIN found ON record.rowid = found.place"

    def funnel(self) -> list[dict[str, Any]]:
        """One step a stage: how many came, how many each reason took, how many went on or are not there yet."""
        sql = "SELECT stage, reason, count(*) FROM record WHERE reason IS NOT NULL GROUP BY ALL"
        lost: dict[str, dict[str, int]] = {}
        for stage, reason, count in self.records.cursor().execute(sql).fetchall():
            lost.setdefault(stage, {})[reason] = count
        reached = dict(self.records.cursor().execute("SELECT reached, count(*) FROM record GROUP BY 1").fetchall())
        steps, left = [], self.records.count
        for at, stage in enumerate(ROWS):
            if stage not in self.records.stages:
                continue
            came = left
            of_stage = lost.get(stage, {})
            rejected = [[reason.value, of_stage[reason]] for reason in Reason if reason in of_stage]
            left -= sum(of_stage.values())
            waiting = sum(count for name, count in reached.items() if list(ROWS).index(name) < at)
            steps.append({"stage": stage, "came": came, "rejected": rejected, "left": left, "waiting": waiting})
        return steps

    def histogram(self, name: str, query: str, bins: int = 40) -> dict[str, Any]:
        """How a number is spread over what a query finds: equal bins, the first and last open. Raises SurdError."""
        (field,) = fields_of(name)[:1]
        if field.kind != "number" or field.relation != "record":
            raise SurdError(f"{name!r} has no histogram; choose a number such as width or score.simple")
        where = self.condition(query)
        value = field.expression
        low, high, count = self.records.cursor().execute(
            f"SELECT quantile_cont({value}, 0.002), quantile_cont({value}, 0.998), count({value}) FROM record"
            f" WHERE {where.sql}", where.parameters,
        ).fetchall()[0]  # fmt: skip
        if not count:
            return {"name": name, "low": 0, "high": 0, "counts": [], "count": 0}
        step = (high - low) / bins or 1
        counts = [0] * bins
        sql = f"""SELECT greatest(0, least({bins - 1}, CAST(floor(({value} - ?) / ?) AS INTEGER))) AS bin, count(*)
            FROM record WHERE {where.sql} AND {value} IS NOT NULL GROUP BY 1"""
        for bin_, n in self.records.cursor().execute(sql, [low, step, *where.parameters]).fetchall():
            counts[bin_] = n
        return {"name": name, "low": low, "high": low + step * bins, "counts": counts, "count": count}

    def ranking(self, name: str, query: str, limit: int = 12) -> dict[str, Any]:
        """The most frequent values of any field in what a query finds; of a list, of its entries. Raises SurdError."""
        field = fields_of(name)[0]
        cursor, found = self._found(query)
        value = field.expression if field.relation != "record" else f"record.{field.expression}"
        of_list = field.kind == "list"
        if field.relation == "record":
            source = "record"
        else:
            rows = f"SELECT key, {value} AS value FROM {self.records.relation(field.relation)}"
            source, value = f"({rows}) AS stored RIGHT JOIN record USING (key)", "stored.value"
        sql = f"""SELECT {f"unnest({value})" if of_list else value} AS value, count(*) AS n FROM {source} {found}
            GROUP BY 1 ORDER BY n DESC, 1 LIMIT ?"""
        values = [list(row) for row in cursor.execute(sql, [limit]).fetchall()]
        return {"name": name, "values": [[_cut(value), count] for value, count in values]}


def _cut(value: Any) -> Any:
    return value[:_LONG] if isinstance(value, str) else value


def order_of(sort: str) -> str:
    """SQL of an order: a number's name, with ``-`` after it for the largest first; else that of collection."""
    if sort == "random":
        return "hash(key), rowid"
    name, down = sort.removesuffix("-"), sort.endswith("-")
    known = {field.name: field for field in FIELDS if field.relation == "record" and field.kind == "number"}
    if name not in known:
        return "rowid"
    return f"{known[name].expression} {'DESC' if down else 'ASC'} NULLS LAST, rowid"
