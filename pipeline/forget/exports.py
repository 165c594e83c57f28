"""Exports of a build, made again without what was removed from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.export import export
from surd.pipeline.forget.find import INDEX, parts_of
from surd.schemas import SurdError

_TABLE = re.compile(r"data/train-\d+-of-\d+\.parquet|\d{5}\.parquet")
_LINES = "train/metadata.jsonl"


@dataclass(frozen=True)
class Export:
    """A folder that ``surd export`` wrote, and its layout."""

    folder: str
    layout: str


def check_export(build: Build, folder: str) -> Export:
    """The layout of an export. Raises SurdError unless the folder is one of this build: it will be replaced."""
    out = Build(folder)
    layout = _layout(out)
    if layout is None:
        raise SurdError(f"--export is {folder!r} and holds no export of surd; give the folder of surd export --out")
    others = set(_exported(out)) - set(_keys(build))
    if others:
        raise SurdError(
            f"--export is {folder!r} and holds {len(others):,} sample(s) that {build.root!r} does not know, such as"
            f" {min(others)}; give an export of this build"
        )
    return Export(folder, layout)


def export_again(build: Build, made: Export) -> None:
    """Replace an export by one of the build as it is now."""
    export(build, made.layout, Build(made.folder), overwrite=True)


def _layout(out: Build) -> str | None:
    names = set(out.listdir(""))
    if out.exists(_LINES):
        return "authors" if "prompt2vec" in names else "imagefolder"
    if any(_TABLE.fullmatch(f"data/{name}") for name in out.listdir("data")):
        return "parquet"
    return "img2dataset" if any(_TABLE.fullmatch(name) for name in names) else None


def _exported(out: Build) -> Iterator[str]:
    """The keys of an export's samples."""
    if out.exists(_LINES):
        with reading(out, _LINES):
            yield from (json.loads(line)["key"] for line in out.read_bytes(_LINES).splitlines())
        return
    for file in filter(_TABLE.fullmatch, [*out.listdir(""), *(f"data/{name}" for name in out.listdir("data"))]):
        yield from out.read_table(file, columns=["key"])["key"].to_pylist()


def _keys(build: Build) -> Iterator[str]:
    """Of all records of the build, or of a dataset's samples."""
    files = [part_file("collect", part) for part in parts_of(build, "collect")]
    for file in files or [INDEX]:
        yield from build.read_table(file, columns=["key"])["key"].to_pylist()
