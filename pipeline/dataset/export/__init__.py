"""Export of a dataset to layouts that other tools read, one module each: ``LAYOUTS`` lose nothing and can be imported
again as they were; ``TRAINERS`` are what trainers of others open."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.dataset.export.options import CACHE, RECORD, TrainerOptions, read_record
from surd.pipeline.dataset.reader import StoredSample, read_manifest, read_scores, read_shard
from surd.schemas import ColumnManifest, Sample, SurdError


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
_TRAINERS = {
    "kohya": "kohya",
    "onetrainer": "onetrainer",
    "ai-toolkit": "ai_toolkit",
    "simpletuner": "simpletuner",
    "musubi": "musubi",
}
LAYOUTS = tuple(_WRITERS)
TRAINERS = (*_TRAINERS, "webshart")
#: What lies at the top of an export of LAYOUTS.
_EXPORTED = re.compile(r"train|prompt2vec|data|\d{5,}(\.tar|\.parquet|_stats\.json)")


def export(
    build: Build,
    layout: str,
    out: Build,
    done: Callable[[int], None] = lambda count: None,
    *,
    overwrite: bool = False,
    options: TrainerOptions | None = None,
    keeps: Callable[[Sample], bool] = lambda sample: True,
) -> int:
    """Write a dataset to a new folder in a layout; ``done`` is called for every sample. Returns how many were written.

    The folder appears when it is complete. With ``overwrite`` it may take the place of an earlier export, in any
    layout. ``options`` are of TRAINERS alone. A sample that ``keeps`` is false of is left out. Raises SurdError when
    the layout is unknown, the folder holds anything else, or the dataset is not sound.
    """
    if layout not in (*LAYOUTS, *TRAINERS):
        raise SurdError(f"--to is {layout!r}; give {', '.join((*LAYOUTS, *TRAINERS))}")
    if options is not None and layout in LAYOUTS:
        raise SurdError(
            f"--to is {layout!r}, which holds all texts; the flags of captions are of {', '.join(TRAINERS)}"
        )
    write = _writer(layout, options or TrainerOptions(), out)
    manifest = read_manifest(build)
    present = out.listdir("")
    if present and not (overwrite and _is_export(out, present)):
        remedy = "holds more than an export" if overwrite else "is not empty; to replace an export, give --overwrite"
        raise SurdError(f"--out is {out.root!r} and {remedy}; name a new folder")
    scores = read_scores(build)
    count = 0

    def counted(samples: Iterable[StoredSample]) -> Iterator[StoredSample]:
        nonlocal count
        for sample in samples:
            if keeps(sample.sample):
                yield sample
                count += 1
            done(1)

    parts = (
        ShardSamples(number, len(manifest.shards), counted(read_shard(build, shard, scores)))
        for number, shard in enumerate(manifest.shards)
    )
    if not present and out.exists(""):  # perhaps a mount point, which no other folder can replace
        _fill(build, out, parts, write)
    else:
        above, name = Build(out.parent), out.name
        above.check_writable()
        with above.replacing(name) as fresh:
            write(build, Build(above.path(fresh)), parts)
    return count


def _writer(layout: str, options: TrainerOptions, out: Build) -> Writer:
    if layout in LAYOUTS:
        module, _, name = _WRITERS[layout].partition(":")
        writer: Writer = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return writer
    local = out.local_path("")
    root = options.root or (str(local.absolute()) if local else ".")
    if layout == "webshart":
        from surd.pipeline.dataset.export.webshart import write_indexes

        return partial(write_indexes, options=options, root=root)
    from surd.pipeline.dataset.export.trainer_folder import check_lines, write_folder

    trainer = importlib.import_module(f"{__name__}.{_TRAINERS[layout]}").TRAINER
    check_lines(trainer, options)
    return partial(write_folder, trainer=trainer, options=options, root=root)


def _is_export(out: Build, names: list[str]) -> bool:
    """Whether a folder with these names holds an export of surd and nothing else, but for a trainer's cache."""
    if all(_EXPORTED.fullmatch(name) for name in names):
        return True
    record = read_record(out)
    return record is not None and {*names} <= {RECORD, CACHE, *record.files}


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
