"""Embedding columns of a partition as float32 matrices, without a Python object per number or per row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file

FloatArray = npt.NDArray[np.float32]


def columns_of(build: Build, stage: str, part: int) -> list[str]:
    """The columns a stage's part holds: what an older or a smaller build lacks is simply not among them."""
    with reading(build, part_file(stage, part)), build.open_table(part_file(stage, part)) as file:
        return list(pq.read_schema(file).names)


def read_columns(build: Build, stage: str, part: int, columns: list[str]) -> pa.Table:
    """Some columns of one partition; of the file only these are read."""
    with reading(build, part_file(stage, part)), build.open_table(part_file(stage, part), columns) as file:
        return pq.ParquetFile(file).read(columns=columns, use_threads=False).select(columns)


def read_embeddings(
    build: Build, stage: str, part: int, column: str, keys: set[str] | None = None
) -> tuple[list[str], FloatArray]:
    """Keys and embeddings [rows, width] of the rows the stage kept, in the partition's order, unusable ones left out.

    With ``keys`` only those rows. Without any row the matrix is [0, 0].
    """
    table = read_columns(build, stage, part, ["key", "status", column])
    wanted = pc.and_(pc.equal(table["status"], "kept"), pc.is_valid(table[column]))
    if keys is not None:
        wanted = pc.and_(wanted, pa.array([key in keys for key in table["key"].to_pylist()]))
    table = table.filter(wanted)
    if not table.num_rows:
        return [], np.zeros((0, 0), np.float32)
    values = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = values.astype(np.float32, copy=False).reshape(table.num_rows, -1)
    finite = np.isfinite(vectors).all(axis=1)
    return table["key"].filter(pa.array(finite)).to_pylist(), vectors[finite]
