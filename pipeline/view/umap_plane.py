"""Pictures on a plane by UMAP (arXiv 1802.03426), where the package umap-learn is installed.

In a process of its own: the package compiles itself for some ten seconds, in which other threads would wait, and takes
up to a gigabyte, which the viewer gets back when the process ends.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from surd.pipeline.build.folder import Build, part_number
from surd.pipeline.build.part_columns import FloatArray, read_embeddings
from surd.pipeline.view.table import Records
from surd.schemas import SurdError

TABLE = "umap_plane"
MOST = 100_000  # embeddings that get a place
_FIT = 4000  # embeddings that UMAP is fitted on, whose distances to each other take 64 MB
_NEIGHBOURS = 15  # UMAP's own default


def is_installed() -> bool:
    """Whether the package is there; it is not loaded."""
    return find_spec("umap") is not None


class UmapPlane:
    """The table ``umap_plane`` (key, x, y) of some records, from when it is asked for to when it is made."""

    def __init__(self, records: Records) -> None:
        ours, theirs = get_context("spawn").Pipe(duplex=False)
        arguments = theirs, records.build.root, score_parts(records), records.count
        self._process = get_context("spawn").Process(target=_make, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._why: str | None = None
        self._thread = threading.Thread(target=self._receive, args=(ours, records), daemon=True)
        self._thread.start()

    def is_ready(self) -> bool:
        """Whether the table is made. Raises SurdError when it cannot be."""
        if self._why:
            raise SurdError(self._why)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the process; a table that is not made by then never is."""
        self._process.kill()
        self._thread.join()

    def _receive(self, pipe: Connection, records: Records) -> None:
        try:
            self._why = pipe.recv_bytes().decode() or None
            if self._why is None:
                plane = pa.ipc.open_stream(pipe.recv_bytes()).read_all()
                cursor = records.cursor()
                cursor.register("placed", plane)
                cursor.execute(f"CREATE OR REPLACE TABLE {TABLE} AS SELECT * FROM placed")
                cursor.unregister("placed")
        except (EOFError, OSError, duckdb.Error) as error:
            self._why = f"UMAP ended without a map ({error or type(error).__name__}); the terminal may say why"
        finally:
            pipe.close()


def score_parts(records: Records) -> list[int]:
    """The partitions that have embeddings of pictures."""
    parts = (part_number(file.name) for file in records.files.get("score", []))
    return [part for part in parts if part is not None]


def _make(pipe: Connection, root: str, parts: Sequence[int], count: int) -> None:
    """What the process does: sends why there is no map ("" if there is one), and the table as an Arrow stream."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the viewer ends this one
    os.nice(10)  # the viewer's own work comes first
    try:
        keys, places = umap_places(Build(root), parts, count)
    except SurdError as error:
        pipe.send_bytes(str(error).encode())
        return
    pipe.send_bytes(b"")
    table = pa.table({"key": keys, "x": places[:, 0], "y": places[:, 1]})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    pipe.send_bytes(stream.getvalue())


def umap_places(build: Build, parts: Sequence[int], count: int) -> tuple[list[str], FloatArray]:
    """Keys, and their places [rows, 2], of the CLIP embeddings of pictures in some partitions, the same each time.

    Fitted on an even draw of at most 4,000 of them; the others are placed by its ``transform``. ``count``: records of
    the build; where it has more than 100,000, an even draw of so many is placed. Raises SurdError where there are too
    few embeddings.
    """
    from umap import UMAP

    warnings.filterwarnings("ignore", category=UserWarning, module="umap")  # of what is meant: a seed, known distances
    drawn = [_even(*_embeddings(build, part), count, _FIT) for part in parts]
    fitted, sample = [key for keys, _ in drawn for key in keys], _stacked([vectors for _, vectors in drawn])
    fitted, sample = _even(fitted, sample, len(fitted), _FIT)  # of many small partitions each gave one at least
    if len(fitted) <= _NEIGHBOURS:
        raise SurdError(f"the build has {len(fitted)} embeddings: UMAP needs {_NEIGHBOURS + 1}; look at the map by PCA")
    # Distances that are known spare it the search for neighbours, which takes a minute to compile.
    model: Any = UMAP(n_neighbors=_NEIGHBOURS, metric="precomputed", random_state=0)
    model.fit(_distances(sample, sample))
    keys, places = list(fitted), [np.asarray(model.embedding_, np.float32)]
    known = set(fitted)
    for part in parts:
        found, vectors = _even(*_embeddings(build, part), count, MOST)
        rest = [row for row, key in enumerate(found) if key not in known]
        if rest:
            keys += [found[row] for row in rest]
            places.append(np.asarray(model.transform(_distances(vectors[rest], sample)), np.float32))
    return keys, np.concatenate(places)


def _embeddings(build: Build, part: int) -> tuple[list[str], FloatArray]:
    keys, vectors = read_embeddings(build, "score", part, "image_embedding")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return keys, vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def _even(keys: list[str], vectors: FloatArray, count: int, most: int) -> tuple[list[str], FloatArray]:
    """Every second, third ... of them, as is needed for ``most`` of ``count``."""
    step = max(1, -(-count // most))
    return keys[::step], vectors[::step]


def _stacked(vectors: list[FloatArray]) -> FloatArray:
    filled = [one for one in vectors if len(one)]
    return np.concatenate(filled) if filled else np.zeros((0, 0), np.float32)


def _distances(vectors: FloatArray, sample: FloatArray) -> FloatArray:
    """Cosine distances of unit vectors, [len(vectors), len(sample)]."""
    return np.clip(1 - vectors @ sample.T, 0, 2)
