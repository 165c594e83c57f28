"""The dataset a training reads: the shards, and of their columns those that save computation."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sur_adapter.base_model import resolve_base
from sur_adapter.data.batch import batch_field
from sur_adapter.data.dataset_layout import DatasetLayout
from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.training.conditions import LATENTS, needed_columns
from sur_adapter.training.config import TrainConfig
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest
from surd.schemas.model_ref import content_hash, resolve_model


def open_data(config: TrainConfig, computed: Collection[str] = ()) -> tuple[ShardDataset, str]:
    """The dataset and the base model to train for. Images are read only if latents must be computed from them.

    Columns of what is ``computed`` anyway are left out. Raises SurdError if the LLM column is missing or ambiguous, or
    a column was made with another base model.
    """
    layout = DatasetLayout(config.shards)
    base = config.base or layout.manifest.diffusion
    needed = needed_columns(config) - set(computed)
    columns = layout.columns()
    usable = {name: column for name, column in columns.items() if config.columns and _is_usable(column, needed)}
    for column in usable.values():
        _check_model(column, base)
    stored = {batch_field(column) for column in usable.values()}
    llm = [_llm_column(config, columns, layout.build)] if config.w_llm else []
    return ShardDataset(layout, columns=[*llm, *usable], image=LATENTS in needed_columns(config) - stored), base


def _is_usable(column: ColumnManifest, needed: Collection[str]) -> bool:
    """Whether it saves computation: text columns of version 1 have no mask and save none."""
    return column.kind != "llm" and batch_field(column) in needed and (column.mask or column.kind != "clip")


def _check_model(column: ColumnManifest, base: str) -> None:
    path = resolve_base(base)
    if column.model == base or path == _resolved(column.model):
        return
    # The same encoders at another path, because a build may move; no column depends on the UNet.
    if Path(path).exists() and content_hash(path, "unet") == column.revision:
        return
    raise SurdError(
        f"--base: column {column.column} was made with {column.model!r}, not with {base!r}; "
        "name that model, or pass --no-columns"
    )


def _resolved(ref: str) -> str:
    try:
        return resolve_model(ref)
    except SurdError:  # a model that no longer exists is not the one named
        return ""


def _llm_column(config: TrainConfig, columns: dict[str, ColumnManifest], build: str) -> str:
    """The column named in the config, or the only one."""
    present = [name for name, column in columns.items() if column.kind == "llm"]
    matches = [name for name in present if config.llm_column in (None, name)]
    if len(matches) != 1:
        problem = f"{build} has several" if matches else f"{build} does not have it"
        raise SurdError(
            f"--llm-column: {config.llm_column!r}, but {problem} (present: {', '.join(present) or 'none'}); "
            "name one, or pass --w-llm 0"
        )
    if config.llm_targets == "tokens" and columns[matches[0]].pooling != "tokens":
        raise SurdError(
            f"--llm-targets: 'tokens' needs a column of tokens, but {matches[0]} holds one vector a prompt; "
            "embed with pooling tokens and name that column"
        )
    return matches[0]
