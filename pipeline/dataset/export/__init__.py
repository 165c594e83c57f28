"""Export of a dataset to layouts that other tools read: one module a layout; each can be imported again."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.dataset.reader import StoredSample, read_manifest, read_scores, read_shard
from surd.schemas import ColumnManifest, SurdError


@dataclass(frozen=True)
class ShardSamples:
    """One shard's samples, on their way into another layout."""

    number: int
    parts: int
    samples: Iterable[StoredSample]


Writer = Callable[[Build, Build, Iterator[ShardSamples]], None]
_WRITERS = {
    "authors": "image_folder:authors",
    "imagefolder": "image_folder:image_folder",
    "parquet": "parquet:parquet",
    "img2dataset": "img2dataset:img2dataset",
}
LAYOUTS = tuple(_WRITERS)
#: What lies at the top of an export, in any layout.
_EXPORTED = re.compile(r"train|prompt2vec|data|\d{5,}(\.tar|\.parquet|_stats\.json)")


def export(
    build: Build,
    layout: str,
    out: Build,
    done: Callable[[int], None] = lambda count: None,
    *,
    overwrite: bool = False,
) -> int:
    """Write a dataset to a new folder in a layout; ``done`` is called for every sample. Returns how many there are.

    The folder appears when it is complete. With ``overwrite`` it may take the place of an earlier export, in any
    layout. Raises SurdError when the layout is unknown, the folder holds anything else, or the dataset is not sound.
    """
    if layout not in _WRITERS:
        raise SurdError(f"--to is {layout!r}; give {', '.join(LAYOUTS)}")
    manifest = read_manifest(build)
    present = out.listdir("")
    if present and not (overwrite and all(_EXPORTED.fullmatch(name) for name in present)):
        remedy = "holds more than an export" if overwrite else "is not empty; to replace an export, give --overwrite"
        raise SurdError(f"--out is {out.root!r} and {remedy}; name a new folder")
    scores = read_scores(build)

    def counted(samples: Iterable[StoredSample]) -> Iterator[StoredSample]:
        for sample in samples:
            yield sample
            done(1)

    parts = (
        ShardSamples(number, len(manifest.shards), counted(read_shard(build, shard, scores)))
        for number, shard in enumerate(manifest.shards)
    )
    module, _, name = _WRITERS[layout].partition(":")
    write: Writer = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    if not present and out.exists(""):  # perhaps a mount point, which no other folder can replace
        _fill(build, out, parts, write)
    else:
        above, name = Build(out.parent), out.name
        above.check_writable()
        with above.replacing(name) as fresh:
            write(build, Build(above.path(fresh)), parts)
    return manifest.count


def _fill(build: Build, out: Build, parts: Iterator[ShardSamples], write: Writer) -> None:
    out.check_writable()
    try:
        write(build, out, parts)
    except BaseException:  # the folder was empty, and half a dataset would pass for a whole one
        for entry in out.listdir(""):
            out.remove(entry)
        raise


def llm_columns(build: Build) -> list[ColumnManifest]:
    """The LLM columns of a dataset."""
    return [column for column in columns_present(build).values() if column.kind == "llm"]
