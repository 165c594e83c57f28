"""A base model with two text encoders: the adapter works on their states side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_prompts, load_base
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from tests.sur_adapter.tiny_sdxl import save_tiny_sdxl
from tests.sur_adapter.training.test_columns import conditions


@pytest.fixture
def xl(base: Path, tmp_path: Path) -> Path:
    """Text states 32 + 16 wide, pooled text 8."""
    return save_tiny_sdxl(str(base), tmp_path / "xl")


def test_states_are_those_of_both_encoders(xl: Path) -> None:
    pipe: Any = load_base(str(xl))
    texts = encode_prompts(pipe, ["red cat", "dog"])
    assert texts.states.shape == (2, 16, 48) and texts.mask.shape == (2, 16) and texts.pooled is not None
    assert texts.pooled.shape == (2, 8)


def test_sdxl_trains_through_its_unet(config: Callable[..., TrainConfig], xl: Path, tmp_path: Path) -> None:
    result = train(config(base=str(xl), steps=2, w_llm=0, w_prompt=0, heads=8))
    assert result.losses_last["denoise"] > 0
    adapter = SURAdapter.from_pretrained(tmp_path / "run")
    assert adapter.config["width"] == 48 and adapter.fc.weight.abs().max() > 0


def test_columns_give_what_both_encoders_would_compute_and_neither_is_loaded(
    config: Callable[..., TrainConfig], build: Any, xl: Path
) -> None:
    build.base = xl
    build.write()

    asked = config(heads=8, caption_dropout=0.5)
    computed, _ = conditions(asked)
    build.add_columns("latents", "clip-simple", "clip-complex")
    read, conditioner = conditions(asked)
    assert {name for name, part in conditioner.pipe.components.items() if part is not None} == {"unet", "scheduler"}
    assert not read.kept_B.all() and torch.equal(computed.kept_B, read.kept_B)
    for name in ("simple_BTD", "complex_BTD", "latents"):
        torch.testing.assert_close(getattr(read, name), getattr(computed, name), rtol=0, atol=5e-3)
    torch.testing.assert_close(read.added["text_embeds"], computed.added["text_embeds"], rtol=0, atol=5e-3)
    assert torch.equal(read.added["time_ids"], computed.added["time_ids"])
    assert train(config(steps=2, heads=8)).computed == []


@pytest.mark.parametrize("pooled", [None, 4])
def test_a_column_without_the_pooled_text_that_the_unet_takes_is_refused(
    config: Callable[..., TrainConfig], build: Any, xl: Path, pooled: int | None
) -> None:
    build.base = xl
    build.write().add_columns("clip-simple")
    file = build.root / "columns/clip-simple/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pooled": pooled}))
    wanted = f"is {pooled or 0} wide in its pooled text where .* takes 8; .*--no-columns"
    with pytest.raises(SurdError, match=wanted):
        train(config(steps=1, heads=8))
