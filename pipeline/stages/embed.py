"""Stage embed: the columns that the config asks for, and those that were added by hand."""

from __future__ import annotations

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import ColumnSpec, columns_asked, columns_present
from surd.pipeline.dataset.columns.write import describe_column, write_column_shards
from surd.pipeline.models import Models
from surd.schemas import BuildConfig, Row


def embed(build: Build, shard: int, config: BuildConfig, models: Models) -> list[Row]:
    """Write this shard's tar of every column that the config asks for or that the build has: same keys, same order.

    Raises SurdError when a layer is deeper than the LLM, or when the model of a column that is there has changed.
    """
    write_column_shards(build, shard, _columns(build, config), config.embed, models)
    return []


def finish(build: Build, config: BuildConfig, models: Models) -> None:
    """Describe each column in its ``manifest.json``."""
    for column in _columns(build, config):
        describe_column(build, column, models)


def _columns(build: Build, config: BuildConfig) -> list[ColumnSpec]:
    """What the config asks for, then what else is there; a column stays until it is dropped."""
    asked = columns_asked(config.embed, config.models)
    names = {column.name for column in asked}
    return asked + [ColumnSpec.of(there) for name, there in columns_present(build).items() if name not in names]
