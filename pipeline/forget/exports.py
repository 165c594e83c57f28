"""Exports of a build, made again without what was removed from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.export import TRAINERS, export
from surd.pipeline.dataset.export.options import IMAGES, TrainerOptions, read_record
from surd.pipeline.forget.find import INDEX, parts_of
from surd.schemas import SurdError
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES

_TABLE = re.compile(r"data/train-\d+-of-\d+\.parquet|\d{5}\.parquet")
_LINES = "train/metadata.jsonl"
_INDEX = re.compile(r"[\w-]+\.json")  # of webshart


@dataclass(frozen=True)
class Export:
    """A folder that ``surd export`` wrote, its layout, and what was chosen of it."""

    folder: str
    layout: str
    options: TrainerOptions | None = None


def check_export(build: Build, folder: str) -> Export:
    """The layout of an export. Raises SurdError unless the folder is one of this build: it will be replaced."""
    out = Build(folder)
    record = read_record(out)
    layout: str | None
    if record and record.layout in TRAINERS:
        layout, options, exported = record.layout, record.options, set(_of_trainer(out, record.files))
    else:
        layout, options, exported = _layout(out), None, set(_exported(out))
    if layout is None or None in exported:  # others write the same layouts, without keys
        raise SurdError(f"--export is {folder!r} and holds no export of surd; give the folder of surd export --out")
    others = {key for key in exported if key} - set(_keys(build))
    if others:
        raise SurdError(
            f"--export is {folder!r} and holds {len(others):,} sample(s) that {build.root!r} does not know, such as"
            f" {min(others)}; give an export of this build"
        )
    return Export(folder, layout, options)


def export_again(build: Build, made: Export) -> None:
    """Replace an export by one of the build as it is now."""
    export(build, made.layout, Build(made.folder), overwrite=True, options=made.options)


def _layout(out: Build) -> str | None:
    names = set(out.listdir(""))
    if out.exists(_LINES):
        return "authors" if "prompt2vec" in names else "imagefolder"
    if any(_TABLE.fullmatch(f"data/{name}") for name in out.listdir("data")):
        return "parquet"
    return "img2dataset" if any(_TABLE.fullmatch(name) for name in names) else None


def _exported(out: Build) -> Iterator[str | None]:
    """The keys of an export's samples; None of one that has none."""
    if out.exists(_LINES):
        with reading(out, _LINES):
            yield from (json.loads(line).get("key") for line in out.read_bytes(_LINES).splitlines())
        return
    for file in filter(_TABLE.fullmatch, [*out.listdir(""), *(f"data/{name}" for name in out.listdir("data"))]):
        yield from out.read_table(file, columns=["key"])["key"].to_pylist()


def _of_trainer(out: Build, files: list[str]) -> Iterator[str | None]:
    """The names of the pictures that a trainer's export holds or points at, which are keys."""
    for name in out.listdir(IMAGES):
        stem, _, suffix = name.partition(".")
        if suffix in IMAGE_SUFFIXES:
            yield stem
    for name in filter(_INDEX.fullmatch, files):
        with reading(out, name):
            document = json.loads(out.read_bytes(name))
            yield from (
                (key.partition(".")[0] for key in document.get("files", ())) if isinstance(document, dict) else ()
            )


def _keys(build: Build) -> Iterator[str]:
    """Of all records of the build, or of a dataset's samples."""
    files = [part_file("collect", part) for part in parts_of(build, "collect")]
    for file in files or [INDEX]:
        yield from build.read_table(file, columns=["key"])["key"].to_pylist()
