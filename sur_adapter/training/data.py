"""The dataset a training reads: the shards, and of their columns those that save computation."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sur_adapter.base_model import resolve_base
from sur_adapter.data import captions
from sur_adapter.data.batch import batch_field
from sur_adapter.data.dataset_layout import DatasetLayout
from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.training.conditions import LATENTS, SIMPLE, needed_columns
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.llm_source import llm_column
from surd.pretrained.diffusion import denoiser_folder
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest
from surd.schemas.model_ref import content_hash, resolve_model


def open_data(config: TrainConfig, computed: Collection[str] = ()) -> tuple[ShardDataset, str]:
    """The dataset and the base model to train for. Images are read only if latents must be computed from them.

    Columns of what is ``computed`` anyway are left out, and so are the simple prompts' text states where captions are
    drawn. Raises SurdError if the LLM column is missing or ambiguous, a column was made with another base model, or no
    sample has the caption asked for, or if latents in buckets are asked for and cannot be read.
    """
    layout = DatasetLayout(config.shards)
    base = config.base or layout.manifest.diffusion
    needed = needed_columns(config) - set(computed)
    if config.caption != captions.SIMPLE:
        needed -= {SIMPLE}
    columns = layout.columns()
    usable = {
        name: column
        for name, column in columns.items()
        if config.columns and _is_usable(column, needed) and _is_of_bucket(column, config.buckets)
    }
    if config.buckets:
        _check_buckets(config, usable.values(), layout.build)
    for column in usable.values():
        _check_model(column, base)
    stored = {batch_field(column) for column in usable.values()}
    llm = [llm_column(config, columns, layout.build)] if config.reads_llm_column else []
    image = LATENTS in needed_columns(config) - stored
    data = ShardDataset(layout, columns=[*llm, *usable], image=image, caption=config.caption)
    _check_distillation(config, data)
    return data, base


def caption_notes(config: TrainConfig, data: ShardDataset) -> list[str]:
    """What may surprise in a training on drawn captions, a sentence each."""
    counts = data.caption_counts
    if counts is None:
        return []
    notes = []
    if without := counts.samples - counts.served:
        kind = "several captions" if config.caption in captions.ANY else "a caption of that name"
        notes.append(
            f"--caption {config.caption}: {without:,} of {counts.samples:,} samples lack {kind} and give their simple"
            " prompt"
        )
    stored = [name for name, column in data.columns.items() if column.kind == "clip" and column.text == "simple"]
    unread = f", since the column {stored[0]} holds the states of simple prompts alone" if stored else ""
    notes.append(f"--caption {config.caption}: texts are encoded at every step{unread}")
    if config.attaches:
        notes.append(f"--caption {config.caption}: the attached LLM reads the drawn texts at every step")
    elif _distils_simple(data):
        notes.append(
            f"--caption {config.caption}: the column {data.reads['llm'].column} holds an LLM's states of simple prompts"
            " alone; samples for which another text is drawn have no part in LLM distillation"
        )
    return notes


def bucket_notes(config: TrainConfig, data: ShardDataset) -> list[str]:
    """What may surprise about buckets, a sentence each."""
    if not config.buckets:
        needs_none = not config.columns or LATENTS not in needed_columns(config) - data.reads.keys()
        unread = [] if needs_none else [name for name, column in data.columns.items() if column.buckets]
        return [f"the column {name} is not read; pass --buckets to train on it" for name in unread]
    order = data.bucket_order(batch_size=config.batch_size, seed=config.seed)
    if not order.scarce:
        return []
    return [
        f"--buckets: {order.scarce} of {order.buckets} buckets have fewer samples than --batch-size"
        f" {config.batch_size}, so that a batch of theirs has some of them several times"
    ]


def _distils_simple(data: ShardDataset) -> bool:
    """Whether an LLM column is read whose states are of the simple prompts."""
    return "llm" in data.reads and data.reads["llm"].text != "complex"


def _check_distillation(config: TrainConfig, data: ShardDataset) -> None:
    """SurdError if the LLM's states would be of another text than the caption, in every sample."""
    counts = data.caption_counts
    if config.distils and counts is not None and not counts.simple and _distils_simple(data):
        raise SurdError(
            f"--caption: {data.caption!r} takes another text than the simple prompt in every sample, and"
            f" {data.reads['llm'].column} holds the LLM's states of simple prompts alone; pass --w-llm 0, or --caption"
            f" {captions.MIXED}"
        )


def _is_usable(column: ColumnManifest, needed: Collection[str]) -> bool:
    """Whether it saves computation: text columns of version 1 have no mask and save none."""
    return column.kind != "llm" and batch_field(column) in needed and (column.mask or column.kind != "clip")


def _is_of_bucket(column: ColumnManifest, buckets: bool) -> bool:
    """Whether its latents are of buckets, or of the square, as asked for; of other columns it does not matter."""
    return column.kind != "latents" or (column.buckets is not None) == buckets


def _check_buckets(config: TrainConfig, usable: Collection[ColumnManifest], build: str) -> None:
    """SurdError if no latents in buckets would be read, or by an objective for squares."""
    if config.objective == "authors":
        raise SurdError("--buckets: --objective authors trains on squares, as their code does; leave one of them out")
    if not config.w_denoise:
        raise SurdError("--buckets: --w-denoise is 0, so that no latents are read; leave one of them out")
    if not config.columns:
        raise SurdError("--buckets: latents of buckets are read from a column, so not with --no-columns; leave one out")
    if not any(column.buckets for column in usable):
        raise SurdError(
            f"--buckets: {build} has no column of latents in buckets; add it: surd columns add {build} latents-buckets"
        )


def _check_model(column: ColumnManifest, base: str) -> None:
    path = resolve_base(base)
    if column.model == base or path == _resolved(column.model):
        return
    # The same encoders at another path, because a build may move; no column depends on the denoiser.
    if Path(path).exists() and content_hash(path, denoiser_folder(path)) == column.revision:
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
