"""Writes images beside a ``metadata.jsonl``: the image folder of Hugging Face, and the authors' SURD, which is one.

``train/metadata.jsonl`` has ``file_name``, ``text`` (the simple prompt) and ``prompt`` (the complex one) first, then
all else that is known of a sample. The authors' layout adds ``prompt2vec/<llm>/<layer>.pt``.
https://huggingface.co/docs/datasets/image_dataset, https://github.com/Qrange-group/SUR-adapter
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import ShardSamples, llm_columns
from surd.pipeline.dataset.reader import read_column_shard, read_manifest
from surd.schemas import ColumnManifest


def image_folder(build: Build, out: Build, parts: Iterator[ShardSamples]) -> None:
    _write(out, parts)


def authors(build: Build, out: Build, parts: Iterator[ShardSamples]) -> None:
    """The vectors of every LLM column too; ``<layer>.json`` beside each says what they are."""
    texts = _write(out, parts)
    for column in llm_columns(build):
        _write_vectors(build, out, column, texts)


def _write(out: Build, parts: Iterator[ShardSamples]) -> dict[str, str]:
    """Write images, then, as proof that all are there, the metadata. Returns key -> simple prompt."""
    texts: dict[str, str] = {}
    with out.writing("train/metadata.jsonl") as lines:
        for part in parts:
            for each in part.samples:
                out.write_bytes(f"train/{each.file_name}", each.image, durable=False)
                row = {"file_name": each.file_name, "text": each.sample.simple, "prompt": each.sample.complex}
                lines.write((json.dumps(row | each.fields(), ensure_ascii=False) + "\n").encode())
                texts[each.sample.key] = each.sample.simple
    return texts


def _write_vectors(build: Build, out: Build, column: ColumnManifest, texts: dict[str, str]) -> None:
    """One file a column: a mapping of each simple prompt to its vector, as their code loads and stacks it."""
    from surd.pipeline.dataset.torch_vectors import vector_file  # only here: it loads torch

    found = {}
    for shard in read_manifest(build).shards:
        for key, array in read_column_shard(build, column.column, shard):
            if key in texts:  # the others are left out
                found[texts[key]] = array
    llm = column.model.rstrip("/").rsplit("/", 1)[-1]
    if not re.fullmatch(r"\w[\w.-]*", llm):  # a stranger's manifest may name its model as it likes
        llm = "llm"
    layer = "all" if column.layer is None else column.layer
    name = f"prompt2vec/{llm}{'' if column.pooling == 'mean' else f'-{column.pooling}'}/{layer}"
    out.write_json(f"{name}.json", column.model_copy(update={"shards": []}))
    out.write_bytes(f"{name}.pt", vector_file(found, bfloat16=column.dtype == "bfloat16"))
