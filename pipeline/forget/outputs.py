"""What models gave for removed records, taken out of the build's cache of model outputs."""

from __future__ import annotations

from collections.abc import Iterator, Set

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.pipeline.forget.find import parts_of
from surd.pipeline.model_cache.outputs import FOLDER, text_hash
from surd.pipeline.model_cache.outputs import forget as forget_contents
from surd.pipeline.model_cache.segments import segments, unit_of

#: Stage -> its columns that models read or wrote: hashes of pictures, and texts.
_PICTURES = {"fetch": ("sha256", "original_sha256")}
_TEXTS = {
    "clean": ("complex",),
    "caption": ("captions",),
    "rewrite": ("rewrites",),
    "correct": ("simple", "before", "worded_from", "candidates"),
}
_OF_VARIANTS = "correct"


def remove_outputs(build: Build, keys: Set[str]) -> None:
    """Remove all outputs about the records' pictures and texts. Call it while the rows still hold those.

    Stage correct also embeds variants of sentences that no row holds: what it kept of these partitions goes whole.
    """
    if not build.exists(FOLDER):
        return
    every = {part: build.read_table(part_file("collect", part), ["key"])["key"] for part in parts_of(build, "collect")}
    parts = {part for part, of_part in every.items() if not keys.isdisjoint(of_part.to_pylist())}
    forget_contents(build.root, {content for part in parts for content in _contents(build, part, keys)})
    for space in build.listdir(FOLDER):
        if space.startswith(_OF_VARIANTS):
            for name in segments(build, f"{FOLDER}/{space}"):
                if unit_of(name) in parts:
                    build.remove(f"{FOLDER}/{space}/{name}")


def _contents(build: Build, part: int, keys: Set[str]) -> Iterator[str]:
    """What the cache calls the pictures and texts of the records of one partition."""
    for stage, columns in (_PICTURES | _TEXTS).items():
        if not build.exists(part_file(stage, part)):
            continue
        there = [name for name in columns if name in columns_of(build, stage, part)]
        for row in read_columns(build, stage, part, ["key", *there]).to_pylist():
            if row.pop("key") in keys:
                values = [value for value in row.values() if value]
                texts = [text for value in values for text in (value if isinstance(value, list) else [value]) if text]
                yield from texts if stage in _PICTURES else map(text_hash, texts)
