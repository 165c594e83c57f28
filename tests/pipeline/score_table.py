"""Writes what select reads of a build, from vectors: a score table without an image or a model."""

import numpy as np
import pyarrow as pa

from surd.pipeline.build.folder import Build, part_file
from surd.schemas import Cleaned, Corrected, Marker, Reason, Scored, Status, arrow_schema


def unit(vectors) -> np.ndarray:
    """Rows of length 1."""
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_part(build: Build, part: int, keys, images, complex_vectors, simple_vectors=None, prompts=None, lost=()):
    """One partition as correct leaves it; the rows whose keys are in ``lost`` correct has rejected."""
    prompts = prompts or [f"masterpiece, thing {key}" for key in keys]
    simple = [f"A picture of thing {key}." for key in keys]
    simple_vectors = complex_vectors if simple_vectors is None else simple_vectors
    fits = {
        "clip_complex": (images * complex_vectors).sum(1, dtype=np.float64),
        "clip_simple": (images * simple_vectors).sum(1, dtype=np.float64),
    }
    gone = [key in lost for key in keys]
    rejected = {
        "status": [Status.REJECTED.value if out else Status.KEPT.value for out in gone],
        "reason": [Reason.MISMATCH.value if out else None for out in gone],
        "rejected_by": ["correct" if out else None for out in gone],
    }
    _write(build, "clean", part, Cleaned, {"key": keys, "complex": prompts})
    scored = {"image_embedding": images, "complex_embedding": complex_vectors, "clip_complex": fits["clip_complex"]}
    _write(build, "score", part, Scored, {"key": keys} | scored)
    _write(build, "correct", part, Corrected,
           {"key": keys, "simple": simple, "simple_embedding": simple_vectors} | fits | rejected)  # fmt: skip


def write_end(build: Build, parts: int, rows: int) -> None:
    """The markers of a build that is done up to correct."""
    for stage, count in (("collect", 1), ("correct", parts)):
        for part in range(count):
            marker = Marker(stage=stage, part=part, parts=parts, fingerprint="", outputs={}, rows=rows, seconds=0)
            build.write_marker(marker)


def _write(build: Build, stage: str, part: int, model: type, values: dict) -> None:
    schema, columns = arrow_schema(model), []
    count = len(values["key"])
    values = {"status": [Status.KEPT.value] * count} | values
    for field in schema:
        value = values.get(field.name)
        if value is None:
            columns.append(pa.nulls(count, field.type))
        elif isinstance(value, np.ndarray) and value.ndim == 2:
            offsets = np.arange(count + 1, dtype=np.int32) * value.shape[1]
            columns.append(pa.ListArray.from_arrays(offsets, pa.array(value.astype(np.float32).ravel())))
        else:
            columns.append(pa.array(value, field.type))
    build.write_table(part_file(stage, part), pa.table(columns, schema=schema))
