"""Records as points: one score against another, and the CLIP embeddings of their pictures on a plane (PCA, UMAP)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from surd.pipeline.build.part_columns import read_embeddings
from surd.pipeline.view import umap_plane
from surd.pipeline.view.fields import fields_of
from surd.pipeline.view.queries import Queries
from surd.pipeline.view.table import Records
from surd.pipeline.view.umap_plane import TABLE, UmapPlane, score_parts
from surd.schemas import SurdError

MOST = 100_000  # points that are drawn
_FIT = 8000  # embeddings that the axes are computed from
_KINDS = "CASE status WHEN 'kept' THEN 0 WHEN 'rejected' THEN 1 ELSE 2 END"


def scatter(queries: Queries, x: str, y: str, query: str) -> bytes:
    """The points (x, y) of what a query finds; see ``_packed``. Raises SurdError."""
    columns = []
    for name in (x, y):
        field = fields_of(name)[0]
        if field.kind != "number" or field.relation != "record":
            raise SurdError(f"{name!r} is not a number; choose one such as score.simple or width")
        columns.append(field.expression)
    where = queries.condition(query)
    sql = f"""SELECT rowid AS place, {columns[0]} AS x, {columns[1]} AS y, {_KINDS} AS kind FROM record
        WHERE {where.sql} AND {columns[0]} IS NOT NULL AND {columns[1]} IS NOT NULL ORDER BY hash(key) LIMIT {MOST}"""
    return _packed(queries.records.cursor().execute(sql, where.parameters).fetchnumpy())


class EmbeddingMap:
    """Pictures on a plane: by the two directions in which their CLIP embeddings differ most (``pca``), or so that
    neighbours stay neighbours (``umap``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made_for: weakref.ref[Records] | None = None  # weak: rows that were read anew are then freed
        self._umap: UmapPlane | None = None
        self._umap_of: weakref.ref[Records] | None = None

    def is_ready(self, queries: Queries, by: str) -> bool:
        """Whether the points are known; those of ``umap`` are computed from the first call on. Raises SurdError."""
        if by == "pca":
            return True
        if by != "umap":
            raise SurdError(f"by is {by!r}: no such map; choose pca or umap")
        if not umap_plane.is_installed():
            raise SurdError("UMAP is not installed; install it with: pip install 'surd[umap]'")
        with self._lock:
            if self._umap is None or self._umap_of is None or self._umap_of() is not queries.records:
                self._stop()
                self._umap, self._umap_of = UmapPlane(queries.records), weakref.ref(queries.records)
            return self._umap.is_ready()

    def points(self, queries: Queries, query: str, by: str = "pca") -> bytes:
        """The points of what a query finds; see ``_packed``. The first call reads every embedding.

        Raises SurdError where they are not known yet.
        """
        if not self.is_ready(queries, by):
            raise SurdError("the map by UMAP is still being computed; ask again in some seconds")
        with self._lock:
            if by == "pca" and (self._made_for is None or self._made_for() is not queries.records):
                _project(queries)
                self._made_for = weakref.ref(queries.records)
        where, table = queries.condition(query), TABLE if by == "umap" else "plane"
        sql = f"""SELECT record.rowid AS place, x, y, {_KINDS} AS kind FROM record JOIN {table} USING (key)
            WHERE {where.sql} ORDER BY hash(key) LIMIT {MOST}"""
        return _packed(queries.records.cursor().execute(sql, where.parameters).fetchnumpy())

    def close(self) -> None:
        """End what is being computed."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._umap is not None:
            self._umap.stop()
            self._umap = None


def _project(queries: Queries) -> None:
    """Fill the table ``plane`` in two passes over the partitions: axes from an even draw of rows, then coordinates."""
    records = queries.records
    build = records.build
    cursor = records.cursor()
    cursor.execute("CREATE OR REPLACE TABLE plane (key VARCHAR, x FLOAT, y FLOAT)")
    parts = score_parts(records)
    drawn = []
    for part in parts:
        _, vectors = read_embeddings(build, "score", part, "image_embedding")
        if len(vectors):
            drawn.append(vectors[:: max(1, records.count // _FIT)])
    if not drawn:
        return
    sample = np.concatenate(drawn)
    mean = sample.mean(0)
    _, directions = np.linalg.eigh((sample - mean).T @ (sample - mean))
    axes = directions[:, -2:][:, ::-1]
    for part in parts:
        keys, vectors = read_embeddings(build, "score", part, "image_embedding")
        if keys:
            flat = ((vectors - mean) @ axes).astype(np.float32)
            cursor.register("flat", pa.table({"key": keys, "x": flat[:, 0], "y": flat[:, 1]}))
            cursor.execute("INSERT INTO plane SELECT key, x, y FROM flat")
            cursor.unregister("flat")


def _packed(columns: Mapping[str, Any]) -> bytes:
    """Arrays of DuckDB as bytes: count (uint32), x, y (float32), place (uint32), kind (uint8: kept, rejected, else)."""
    count = len(columns["place"])
    return b"".join(
        [
            np.array([count], "<u4").tobytes(),
            np.asarray(columns["x"], "<f4").tobytes(),
            np.asarray(columns["y"], "<f4").tobytes(),
            np.asarray(columns["place"], "<u4").tobytes(),
            np.asarray(columns["kind"], "u1").tobytes(),
        ]
    )
