"""Training on latents in buckets: of every shape, resumed, with SDXL's size and crop; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from surd.schemas.shard_format.buckets import bucket_sizes
from tests.sur_adapter.bucketed import SCALE, about, add_buckets
from tests.sur_adapter.conftest import SIZE
from tests.sur_adapter.tiny_sdxl import save_tiny_sdxl
from tests.sur_adapter.tiny_transformers import save_tiny_transformer
from tests.sur_adapter.training.test_columns import conditions

Config = Callable[..., TrainConfig]


def test_a_training_in_buckets_opens_no_image_and_resumes_to_the_same_weights(
    config: Config, build: Any, tmp_path: Path
) -> None:
    add_buckets(build)
    build.add_columns("clip-simple", "clip-complex")
    asked = {"buckets": True, "batch_size": 2, "steps": 6, "checkpoint_every": 3}
    said: list[str] = []
    whole = train(config(**asked, out=tmp_path / "whole"), warn=said.append)
    assert whole.computed == [] and said == [] and whole.losses_last["denoise"] > 0
    train(config(**asked | {"steps": 3}))
    resumed = train(config(**asked))
    assert resumed.resumed_from == 3
    weights = [load_file(next(folder.glob("*.safetensors"))) for folder in (tmp_path / "whole", tmp_path / "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_sdxl_is_told_each_pictures_size_and_crop(config: Config, build: Any, base: Path, tmp_path: Path) -> None:
    build.base = save_tiny_sdxl(str(base), tmp_path / "xl")
    build.write()
    add_buckets(build)
    read, _ = conditions(config(heads=8, buckets=True))
    data, _ = open_data(config(heads=8, buckets=True))
    keys = next(iter(data.loader(batch_size=4, seed=0))).keys
    own = {key: list(about(shard, at)) for shard in range(build.shards) for at, key in enumerate(build.keys(shard))}
    assert read.added is not None and read.added["time_ids"].tolist() == [own[key] for key in keys]
    assert train(config(heads=8, buckets=True, steps=2)).losses_last["denoise"] > 0


@pytest.mark.parametrize("kind", ["sd3", "pixart"])
def test_transformers_train_in_buckets_too(config: Config, build: Any, base: Path, tmp_path: Path, kind: str) -> None:
    build.base = save_tiny_transformer(kind, str(base), tmp_path / kind)
    build.write()
    add_buckets(build, bucket_sizes(SIZE, 2 * SCALE))  # a token is two by two latents
    assert train(config(heads=8, buckets=True, steps=2)).losses_last["denoise"] > 0


def test_without_the_flag_buckets_are_not_read_and_a_run_is_the_one_it_was(config: Config, build: Any) -> None:
    assert "buckets" not in config().fingerprinted_settings()
    assert config(buckets=True).fingerprinted_settings()["buckets"] is True
    add_buckets(build)
    said: list[str] = []
    assert "latents" in train(config(steps=1), warn=said.append).computed
    assert said[-1] == "the column latents-buckets is not read; pass --buckets to train on it"
    build.add_columns("latents")
    said.clear()
    assert "latents" not in train(config(steps=1, overwrite=True), warn=said.append).computed
    assert not any("buckets" in note for note in said)


def test_buckets_that_a_batch_exhausts_are_told(config: Config, build: Any) -> None:
    add_buckets(build)
    said: list[str] = []
    train(config(steps=1, batch_size=4, buckets=True), warn=said.append)
    assert said[-1].startswith("--buckets: 2 of 4 buckets have fewer samples than --batch-size 4, so that")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, r"--buckets: .* has no column of latents in buckets; add it: surd columns add .*build latents-buckets"),
        ({"objective": "authors"}, "--buckets: --objective authors trains on squares, as their code does; leave one"),
        ({"w_denoise": 0}, "--buckets: --w-denoise is 0, so that no latents are read; leave one of them out"),
        ({"columns": False, "llm_column": None, "w_llm": 0}, "--buckets: latents of buckets are read from a column"),
    ],
)
def test_what_does_not_go_with_buckets_is_one_sentence(
    config: Config, build: Any, fields: dict[str, Any], sentence: str
) -> None:
    if fields:
        add_buckets(build)
    else:
        build.add_columns("latents")
    with pytest.raises(SurdError, match=sentence) as told:
        train(config(buckets=True, **fields))
    assert "\n" not in str(told.value)


def test_validation_shards_need_the_column_too(config: Config, build: Any, tmp_path: Path, base: Path) -> None:
    add_buckets(build)
    asked = {"buckets": True, "steps": 2, "batch_size": 2, "validate_every": 2}
    result = train(config(**asked, validation_shards=str(build.root)))
    assert result.best_step == 2
    other = type(build)(tmp_path / "other", base).write()
    with pytest.raises(SurdError, match=r"--buckets: .*other has no column of latents in buckets"):
        train(config(**asked, validation_shards=str(other.root), overwrite=True))
