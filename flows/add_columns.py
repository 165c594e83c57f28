"""Listing, adding and dropping the columns of a finished build; images and other columns stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.build.progress import UnitProgress
from surd.pipeline.dataset.columns.spec import (
    ColumnSpec,
    column_folders,
    columns_asked,
    columns_present,
    drop_column,
    shard_manifest,
)
from surd.pipeline.dataset.columns.write import describe_column, write_column_shards
from surd.pipeline.models import Models
from surd.schemas import BuildConfig, ColumnManifest, SurdError, load_config

OnSamples = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ColumnEntry:
    """A folder below ``columns/``; one without a manifest is unfinished."""

    name: str
    manifest: ColumnManifest | None

    @property
    def size(self) -> int:
        """Bytes of its tars."""
        return sum(tar.bytes for tar in self.manifest.tars) if self.manifest else 0


def list_columns(root: str) -> list[ColumnEntry]:
    """The columns of a build. Raises SurdError when there is no build, or a manifest is not valid."""
    build, _ = open_build(root)
    manifests = columns_present(build)
    return [ColumnEntry(name=name, manifest=manifests.get(name)) for name in column_folders(build)]


def add_columns(root: str, fields: dict[str, Any], on_samples: OnSamples) -> list[ColumnManifest]:
    """Make the columns named by ``embed.layers``, ``embed.pooling`` and ``embed.columns`` of ``fields``.

    Other fields are laid over the build's own config. ``on_samples(done, total)`` is called before the first shard,
    after each, and as its samples are done. Finished shards are skipped, so that a killed run continues. Raises
    SurdError when a column of that name exists and was made by another model.
    """
    build, record = open_build(root)
    recorded_config(build, record)  # else a damaged record would be told as a wrong --param
    config = load_config(record.config, {"embed.layers": [], "embed.columns": [], **fields})
    columns = columns_asked(config.embed, config.models)
    if not columns:
        raise SurdError(
            "no column is named; name latents, latents-buckets, clip-simple or clip-complex, or a layer: --layer 20"
        )
    counts = _shard_counts(build)
    _check_names(build, columns, config)
    models = Models(config.models)
    with exclusive(build) as check:
        for number, count in enumerate(counts):
            check()
            before, total = sum(counts[:number]), sum(counts)
            on_samples(before, total)
            build.progress = UnitProgress(partial(_tell, on_samples, before, count, total))
            write_column_shards(build, number, columns, config.embed, models)
        on_samples(sum(counts), sum(counts))
        return [describe_column(build, column, models) for column in columns]


def drop_columns(root: str, names: Sequence[str]) -> None:
    """Remove columns, finished or not. Raises SurdError, and removes nothing, when one of them does not exist."""
    build, _ = open_build(root)
    present = column_folders(build)
    for name in names:
        if name not in present:
            raise SurdError(f"column {name!r} is not in {root}; its columns are: {', '.join(present) or 'none yet'}")
    with exclusive(build):
        for name in names:
            drop_column(build, name)


def _tell(on_samples: OnSamples, before: int, count: int, total: int, progress: UnitProgress) -> None:
    on_samples(before + int(count * progress.share), total)


def _shard_counts(build: Build) -> list[int]:
    if not build.exists("shards/manifest.json"):
        raise SurdError(f"build {build.root!r} has no shards yet; run the same surd build again")
    return [shard.count for shard in shard_manifest(build).shards]


def _check_names(build: Build, columns: Sequence[ColumnSpec], config: BuildConfig) -> None:
    present = columns_present(build)
    for column in columns:
        existing = present.get(column.name)
        weights = column.models(Models(config.models)).weights(column.role)
        if existing and existing.revision != weights:
            raise SurdError(
                f"column {column.name!r} already exists and was made by {existing.model!r} at revision"
                f" {existing.revision}, while {column.model!r} is now at {weights}; drop it first:"
                f" surd columns drop {build.root} {column.name}"
            )
