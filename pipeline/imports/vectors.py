"""Import of the authors' LLM vectors as columns, and the source string of a finished dataset's layout."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import ColumnSpec, shard_manifest
from surd.pipeline.dataset.columns.write import describe_column, import_column_shard
from surd.pipeline.models import Models
from surd.schemas import ColumnManifest, SurdError
from surd.schemas.config import Pooling
from surd.schemas.manifest import TOKEN_LEVEL
from surd.schemas.paths import absolute

_KINDS = {
    "authors": "authors",
    "imagefolder": "huggingface",
    "parquet": "huggingface",
    "huggingface": "huggingface",
    "img2dataset": "img2dataset",
    "urls": "urls",
}
_LAYER = re.compile(r"\d{1,4}")


def source_of(layout: str) -> str:
    """The source string of a layout such as ``authors:FOLDER``. Raises SurdError on an unknown layout."""
    kind, _, rest = layout.partition(":")
    if kind not in _KINDS or not rest:
        layouts = ", ".join(f"{name}:{'FILE' if name == 'urls' else 'FOLDER'}" for name in _KINDS)
        raise SurdError(f"SOURCE is {layout!r}: it does not name a known layout; give one of {layouts}")
    return f"finished:{_KINDS[kind]}:{rest}"


def vector_files(layout: str) -> list[Path]:
    """The vectors beside the authors' images, ``prompt2vec/<llm>/<layer>.pt``. Raises SurdError on another name."""
    kind, _, rest = layout.partition(":")
    paths = sorted(absolute(rest).glob("prompt2vec/*/*.pt")) if kind == "authors" else []
    for path in paths:
        if not _LAYER.fullmatch(path.stem):
            raise SurdError(f"{path}: its name is not a layer number such as 39.pt; rename it, or use --no-vectors")
    return paths


def import_vectors(build: Build, path: Path, pooling: Pooling, models: Models) -> Iterator[str]:
    """Write the column of a file of vectors, shard by shard; yields the path of each tar.

    ``<layer>.json`` beside it, which surd exports, describes the vectors; without it, ``pooling`` is that of vectors
    of one row. Raises SurdError when the file holds anything else, or a prompt has no vector.
    """
    from surd.pipeline.dataset.torch_vectors import PromptVectors  # only here: it loads torch

    vectors = PromptVectors(path)
    column = _described_column(path) or _guessed_column(path, "tokens" if vectors.of_tokens else pooling)
    if (column.pooling in TOKEN_LEVEL) != vectors.of_tokens:
        raise SurdError(f"{path}: its vectors are not what {path.stem}.json describes; remove that .json file")
    for number, shard in enumerate(shard_manifest(build).shards):
        try:
            import_column_shard(build, number, column, vectors.__getitem__, models)
        except KeyError as error:
            prompt = str(error.args[0])[:80]
            missing = f"it has no vector for the simple prompt {prompt!r}, only for {len(vectors):,} other(s)"
            raise SurdError(f"{path}: {missing}; import without vectors using --no-vectors") from None
        yield f"columns/{column.name}/{shard.name}"
    describe_column(build, column, models)


def _described_column(path: Path) -> ColumnSpec | None:
    """The column that the file was exported from, by the manifest beside it."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    try:
        column = ColumnSpec.of(ColumnManifest.model_validate_json(beside.read_bytes()))
    except (OSError, ValidationError) as error:
        raise SurdError(f"{beside}: not a valid column manifest ({error.__class__.__name__}); remove it") from None
    lacks_layer = column.layer is None and column.pooling != "all-layers"
    if column.kind != "llm" or column.text != "simple" or lacks_layer or column.pooling is None:
        raise SurdError(f"{beside}: it does not describe LLM vectors of simple prompts; remove it")
    return column


def _guessed_column(path: Path, pooling: Pooling) -> ColumnSpec:
    """The column by the file's path alone. Its own hash stands in for the weights, which are unknown."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return ColumnSpec(
        kind="llm",
        model=path.parent.name,
        text="simple",
        layer=int(path.stem),
        pooling=pooling,
        revision=f"imported {digest}",
    )
