"""Training from columns: the same losses as computed on the fly, and nothing loaded that columns make needless."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sur_adapter.training.conditions import Conditioner
from sur_adapter.training.config import TrainConfig, TrainResult
from sur_adapter.training.data import open_data
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from surd.schemas.model_ref import content_hash
from tests.sur_adapter.conftest import CONTEXT, WIDTH, npy, write_tar

Config = Callable[..., TrainConfig]
ALL = ("latents", "clip-simple", "clip-complex")


def conditions(config: TrainConfig) -> tuple[Any, Conditioner]:
    data, base = open_data(config)
    conditioner = Conditioner(config, data, base, Accelerator(cpu=True).device, print)
    batch = next(iter(data.loader(batch_size=4, seed=0, image_size=conditioner.image_size)))
    torch.manual_seed(0)
    return conditioner(batch), conditioner


def test_columns_give_what_the_base_model_would_compute(config: Config, build: Any) -> None:
    computed, _ = conditions(config(caption_dropout=0.5))
    build.add_columns(*ALL)
    read, conditioner = conditions(config(caption_dropout=0.5))
    assert conditioner.computed == [] and conditioner.image_size is None
    assert not computed.kept_B.all() and torch.equal(computed.kept_B, read.kept_B)
    assert torch.equal(computed.mask_BT.bool(), read.mask_BT.bool())
    for name in ("simple_BTD", "complex_BTD", "latents"):
        torch.testing.assert_close(getattr(read, name), getattr(computed, name), rtol=0, atol=5e-3)


def test_with_all_columns_neither_vae_nor_text_encoder_nor_image_is_needed(
    config: Config, build: Any, base: Path, tmp_path: Path
) -> None:
    build.add_columns(*ALL)
    _, conditioner = conditions(config())
    loaded = {name for name, part in conditioner.pipe.components.items() if part is not None}
    assert loaded == {"unet", "scheduler"}
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.move(base / part, tmp_path / part)
    said: list[str] = []
    try:
        assert train(config(steps=2), warn=said.append).computed == []
        assert said == []
        without_empty_prompt(build)
        assert train(config(steps=2, overwrite=True), warn=said.append).computed == []
    finally:
        for part in ("vae", "text_encoder", "tokenizer"):
            shutil.move(tmp_path / part, base / part)
    assert len(said) == 1 and said[0].startswith("no caption is dropped: the empty prompt cannot be encoded")


def without_empty_prompt(build: Any) -> None:
    """As builds were before their columns held it."""
    file = build.root / "columns/clip-simple/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"empty": None}))


def test_the_empty_prompt_is_that_of_the_column_or_else_computed(config: Config, build: Any) -> None:
    build.add_columns(*ALL)
    _, stored = conditions(config())
    without_empty_prompt(build)
    _, computed = conditions(config())
    assert stored.empty is not None and computed.empty is not None
    torch.testing.assert_close(stored.empty.states.float(), computed.empty.states, rtol=0, atol=5e-3)
    assert torch.equal(stored.empty.mask.bool(), computed.empty.mask.bool())
    assert conditions(config(caption_dropout=0))[1].empty is None


def test_a_spoiled_empty_prompt_is_told_by_its_file(config: Config, build: Any) -> None:
    build.add_columns(*ALL)
    folder = build.root / "columns/clip-simple"
    manifest = json.loads((folder / "manifest.json").read_text())

    def spoil(states: np.ndarray) -> None:
        mask = npy(np.ones(len(states), np.uint8))
        info = write_tar(folder / "empty.tar", {"empty.npy": npy(states), "empty.mask.npy": mask}, 1)
        (folder / "manifest.json").write_text(json.dumps(manifest | {"empty": info.model_dump()}))

    for states, problem in (
        (np.full((CONTEXT, WIDTH), np.nan, np.float16), r"empty.npy holds NaN or infinity"),
        (np.zeros((CONTEXT + 1, WIDTH), np.float16), r"empty.npy: its shape is \[17, 32\], its manifest says"),
    ):
        spoil(states)
        with pytest.raises(SurdError, match=rf"columns/clip-simple/empty.tar: member {problem}"):
            train(config(steps=1))


@pytest.mark.parametrize(
    ("column", "lies", "problem"),
    [
        ("clip-simple", {"shape": []}, "empty: it is empty.tar of simple prompts"),
        ("clip-simple", {"empty": None, "pooled": 0}, "pooled: only simple prompts"),
        ("clip-simple", {"empty": None, "mask": False, "pooled": 8}, "pooled: only simple prompts"),
        ("clip-simple", {"shape": [16]}, r"shape: of text states it is \[tokens, width\]"),
        ("clip-simple", {"shape": [0, 32]}, r"shape: of text states it is \[tokens, width\]"),
        ("clip-complex", {"shape": [None, 32]}, r"shape: of text states it is \[tokens, width\]"),
        ("clip-complex", {"width": 7}, "width: it is 7, and the shape's is 32"),
        ("clip-complex", {"pooled": 8}, "pooled: only simple prompts"),
        ("latents", {"mask": True}, "mask: only a column of text states"),
        ("latents", {"pooled": 8}, "pooled: only simple prompts"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(
    config: Config, build: Any, column: str, lies: dict[str, object], problem: str
) -> None:
    build.add_columns(*ALL)
    file = build.root / f"columns/{column}/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | lies))
    with pytest.raises(SurdError, match=f"columns/{column}/manifest.json: not a valid ColumnManifest .*{problem}"):
        train(config(steps=1))


def test_text_columns_of_version_1_have_no_mask_and_are_computed_anew(config: Config, build: Any) -> None:
    build.add_columns(*ALL)
    without_empty_prompt(build)
    file = build.root / "columns/clip-simple/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mask": False, "shape": [], "schema_version": 1}))
    assert train(config(steps=1)).computed == ["clip_simple"]


def test_columns_of_another_base_model_are_refused(config: Config, build: Any, base: Path, tmp_path: Path) -> None:
    build.add_columns("latents")
    other = shutil.copytree(base, tmp_path / "other")
    with pytest.raises(SurdError, match=r"--base: column latents was made with .* not with .*other.*--no-columns"):
        train(config(base=str(other)))
    assert train(config(steps=1, base=str(other), columns=False)).computed


def test_columns_serve_the_same_encoders_that_lie_elsewhere(
    config: Config, build: Any, base: Path, tmp_path: Path
) -> None:
    build.add_columns("latents")
    file = build.root / "columns/latents/manifest.json"
    made_by = {"model": str(tmp_path / "another machine"), "revision": content_hash(str(base), "unet")}
    file.write_text(json.dumps(json.loads(file.read_text()) | made_by))
    moved = shutil.copytree(base, tmp_path / "moved")
    data, _ = open_data(config(base=str(moved)))
    assert "latents" in data.reads
    (moved / "vae/config.json").write_text("{}")
    content_hash.cache_clear()
    with pytest.raises(SurdError, match=r"--base: column latents was made with .*another machine"):
        open_data(config(base=str(moved)))


def test_what_no_column_holds_is_computed_and_said(config: Config, build: Any) -> None:
    build.add_columns("clip-simple")
    said: list[str] = []
    assert train(config(steps=1), warn=said.append).computed == ["clip_complex", "latents"]
    assert said == ["no column of clip_complex, latents: computed anew at every step"]
    assert train(config(steps=1, w_denoise=0, overwrite=True)).computed == ["clip_complex"]
    assert train(config(steps=1, columns=False, overwrite=True)).computed == ["clip_complex", "clip_simple", "latents"]


def test_token_level_targets_need_a_column_of_tokens(config: Config, build: Any, tmp_path: Path) -> None:
    with pytest.raises(
        SurdError, match=r"--llm-targets is 'tokens', which needs a column of tokens, but llm-tiny-l2 holds one"
    ):
        train(config(llm_targets="tokens"))
    build.add_columns("tokens")
    with pytest.raises(SurdError, match=r"has several .*llm-tiny-l2, llm-tiny-l2-tokens"):
        train(config())
    column = "llm-tiny-l2-tokens"
    tokens = train(config(steps=2, llm_targets="tokens", llm_column=column))
    pooled = train(config(steps=2, llm_targets="pooled", llm_column=column, overwrite=True))
    assert tokens.losses_last["llm"] != pooled.losses_last["llm"]
    assert tokens.llm_column == column


def test_columns_of_another_width_are_refused(config: Config, build: Any) -> None:
    build.add_columns("clip-simple")
    path = build.root / "columns/clip-simple/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"width": 64, "shape": [16, 64]}))
    with pytest.raises(SurdError, match=r"column clip-simple of .* is 64 wide where .* takes 32; .*--no-columns"):
        train(config())


def test_the_authors_objective(config: Config, build: Any) -> None:
    build.add_columns(*ALL)
    given = config().model_dump(include={"shards", "out", "device", "heads", "feed_forward"})
    asked = TrainConfig.model_validate(given | {"objective": "authors", "steps": 3, "batch_size": 2})
    assert (asked.lr, asked.w_llm, asked.accumulate, asked.attention_axis) == (1e-5, 1e-5, 4, "batch")
    assert asked.dropout == 0.1
    result = train(asked)
    assert isinstance(result, TrainResult) and set(result.losses_last) == {"denoise", "llm", "prompt"}
