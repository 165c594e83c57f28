"""Turns what names another layout into a source of finished samples, and its files of LLM vectors into columns."""

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
    """The source string of a layout such as ``authors:FOLDER``. Raises SurdError when it is no layout."""
    kind, _, rest = layout.partition(":")
    if kind not in _KINDS or not rest:
        known = ", ".join(f"{name}:{'FILE' if name == 'urls' else 'FOLDER'}" for name in _KINDS)
        raise SurdError(f"SOURCE is {layout!r}; give one of {known}")
    return f"finished:{_KINDS[kind]}:{rest}"


def vector_files(layout: str) -> list[Path]:
    """The vectors beside the authors' images, ``prompt2vec/<llm>/<layer>.pt``. Raises SurdError on another name."""
    kind, _, rest = layout.partition(":")
    found = sorted(Path(rest).expanduser().glob("prompt2vec/*/*.pt")) if kind == "authors" else []
    for path in found:
        if not _LAYER.fullmatch(path.stem):
            raise SurdError(f"{path}: its name is no number of a layer, such as 39.pt; rename it or leave it out")
    return found


def import_vectors(build: Build, path: Path, pooling: Pooling, models: Models) -> Iterator[str]:
    """Write the column of a file of vectors, shard by shard; yields what it wrote.

    ``<layer>.json`` beside it, which surd exports, says what the vectors are; where there is none, those of one row are
    what ``pooling`` says. Raises SurdError where the file is not only vectors, or a prompt has none.
    """
    from surd.pipeline.dataset.torch_vectors import PromptVectors  # only here: it loads torch

    vectors = PromptVectors(path)
    column = _described(path) or _guessed(path, "tokens" if vectors.of_tokens else pooling)
    if (column.pooling == "tokens") != vectors.of_tokens:
        raise SurdError(f"{path}: its vectors are not those that {path.stem}.json describes; remove that")
    for number, shard in enumerate(shard_manifest(build).shards):
        try:
            import_column_shard(build, number, column, vectors.__getitem__, models)
        except KeyError as error:
            prompt = str(error.args[0])[:80]
            others = f"it has no vector of the simple prompt {prompt!r}, but {len(vectors):,} others"
            raise SurdError(f"{path}: {others}; leave them all out with --no-vectors") from None
        yield f"columns/{column.name}/{shard.name}"
    describe_column(build, column, models)


def _described(path: Path) -> ColumnSpec | None:
    """The column that the file was exported from, by the manifest beside it."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    try:
        column = ColumnSpec.of(ColumnManifest.model_validate_json(beside.read_bytes()))
    except (OSError, ValidationError) as error:
        raise SurdError(f"{beside}: it is no manifest of a column ({error.__class__.__name__}); remove it") from None
    if column.kind != "llm" or column.text != "simple" or column.layer is None or column.pooling is None:
        raise SurdError(f"{beside}: it describes no column of LLM vectors of simple prompts; remove it")
    return column


def _guessed(path: Path, pooling: Pooling) -> ColumnSpec:
    """What the file's place says of it. Its own hash stands for the weights, which nobody states."""
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
