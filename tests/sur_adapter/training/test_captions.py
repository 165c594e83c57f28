"""Training on drawn captions: the drawn texts reach the adapter, resumed runs draw the same, columns stay truthful."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from sur_adapter.base_model import encode_prompts
from sur_adapter.training.conditions import Conditioner
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.objective import make_objective
from sur_adapter.training.state import TrainState, make_adapter
from sur_adapter.training.trainer import train
from sur_adapter.training.validation import Validator
from surd.schemas.errors import SurdError
from surd.schemas.records import Caption
from tests.sur_adapter.captioned import add_captions, two_of_three
from tests.sur_adapter.training.test_trainer import same

Config = Callable[..., TrainConfig]
ALL = ("latents", "clip-simple", "clip-complex")


def conditions(config: TrainConfig) -> tuple[Any, Conditioner, Any]:
    data, base = open_data(config)
    conditioner = Conditioner(config, data, base, Accelerator(cpu=True).device, print)
    batch = next(iter(data.loader(batch_size=12, seed=0, image_size=conditioner.image_size)))
    torch.manual_seed(0)
    return conditioner(batch), conditioner, batch


def test_the_adapter_gets_the_drawn_text_and_the_other_columns_are_read_as_ever(config: Config, build: Any) -> None:
    build.add_columns(*ALL)
    add_captions(build, two_of_three)
    given, conditioner, batch = conditions(config(caption="short", caption_dropout=0))
    assert conditioner.computed == ["clip_simple"] and conditioner.image_size is None
    loaded = {name for name, part in conditioner.pipe.components.items() if part is not None}
    assert "text_encoder" in loaded and "vae" not in loaded
    assert batch.captions != batch.simple
    torch.testing.assert_close(given.simple_BTD, encode_prompts(conditioner.pipe, batch.captions).states)
    simple, _, before = conditions(config(caption_dropout=0))
    assert before.keys == batch.keys and not torch.equal(simple.simple_BTD, given.simple_BTD)
    assert torch.equal(simple.complex_BTD, given.complex_BTD) and torch.equal(simple.latents, given.latents)


def test_llm_states_of_simple_prompts_teach_only_where_the_simple_prompt_is_drawn(config: Config, build: Any) -> None:
    add_captions(build, two_of_three)
    given, _, batch = conditions(config(caption="mixed", caption_dropout=0))
    same_text = [drawn == simple for drawn, simple in zip(batch.captions, batch.simple, strict=True)]
    assert given.distilled_B.tolist() == same_text and 0 < sum(same_text) < 12
    assert conditions(config())[0].distilled_B is None
    file = build.root / "columns/llm-tiny-l2/manifest.json"
    file.write_text(file.read_text().replace('"text":"simple"', '"text":"complex"'))
    assert conditions(config(caption="mixed"))[0].distilled_B is None


@pytest.mark.parametrize("objective", ["surd", "authors"])
def test_a_sample_with_another_text_has_no_part_in_the_llm_loss(config: Config, build: Any, objective: str) -> None:
    asked = config(caption="mixed", caption_dropout=0, objective=objective, w_prompt=0, dropout=0)
    add_captions(build, two_of_three)
    given, conditioner, _ = conditions(asked)
    data, base = open_data(asked)
    adapter = make_adapter(asked, 32, data, base)
    adapter.fc.weight.data.normal_()
    objective_of = make_objective(conditioner.pipe, asked)

    def llm_loss() -> float:
        adapted = adapter(given.simple_BTD, given.mask_BT, given.llm, given.llm_mask_BL)
        return float(objective_of.distil(given, adapted).detach())

    before = llm_loss()
    given.llm[~given.distilled_B] += 5.0
    assert llm_loss() == pytest.approx(before, rel=1e-6)
    given.llm[given.distilled_B] += torch.randn_like(given.llm[given.distilled_B])
    assert llm_loss() != pytest.approx(before, rel=1e-6)


def test_where_no_draw_is_the_simple_prompt_distillation_is_refused(config: Config, build: Any) -> None:
    add_captions(build, lambda number, simple: [Caption(name="short", text="cat")])
    with pytest.raises(SurdError, match=r"--caption: 'short' takes another text .* llm-tiny-l2 .*pass --w-llm 0, or"):
        train(config(caption="short"))
    assert train(config(caption="short", steps=1, w_llm=0)).llm_column is None


def test_a_mixed_training_says_once_what_it_does_learns_and_resumes_as_if_never_stopped(
    config: Config, build: Any, tmp_path: Path
) -> None:
    build.add_columns(*ALL)
    add_captions(build, two_of_three)
    notes: list[str] = []
    how = {"caption": "mixed", "steps": 7, "checkpoint_every": 3}
    whole = train(config(**how, out=tmp_path / "whole"), warn=notes.append)
    assert notes == [
        "--caption mixed: 4 of 12 samples lack several captions and give their simple prompt",
        "--caption mixed: texts are encoded at every step, since the column clip-simple holds the states of simple"
        " prompts alone",
        "--caption mixed: the column llm-tiny-l2 holds an LLM's states of simple prompts alone; samples for which"
        " another text is drawn have no part in LLM distillation",
    ]
    assert whole.computed == ["clip_simple"]

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == 5:
            raise KeyError

    with pytest.raises(KeyError):
        train(config(**how, out=tmp_path / "stopped"), stop)
    assert train(config(**how, out=tmp_path / "stopped", workers=1)).resumed_from == 3
    assert same(tmp_path / "whole", tmp_path / "stopped")
    train(config(steps=7, out=tmp_path / "simple"))
    assert not same(tmp_path / "whole", tmp_path / "simple")


def test_losses_fall_on_mixed_captions(config: Config, build: Any) -> None:
    add_captions(build, two_of_three)
    how = {"lr": 2e-3, "eta": 0.5, "batch_size": 12, "caption_dropout": 0, "w_llm": 1, "w_prompt": 1}
    result = train(config(**how, caption="mixed", steps=40))
    assert result.loss_last < 0.85 * result.loss_first
    assert result.losses_last["llm"] < result.losses_first["llm"]


def test_the_notes_name_what_is_missing(config: Config, build: Any) -> None:
    add_captions(build, two_of_three)
    notes: list[str] = []
    train(config(caption="long", steps=1, w_llm=0), warn=notes.append)
    assert notes == [
        "no column of clip_complex, latents: computed anew at every step",
        "--caption long: 4 of 12 samples lack several captions and give their simple prompt",
        "--caption long: texts are encoded at every step",
    ]
    add_captions(build, lambda number, simple: [Caption(name="medium", text="a cat")] if number else [])
    notes.clear()
    train(config(caption="medium", steps=1, w_llm=0, overwrite=True), warn=notes.append)
    assert "--caption medium: 1 of 12 samples lack a caption of that name and give their simple prompt" in notes


def test_the_choice_is_part_of_a_runs_fingerprint_and_the_default_is_not(config: Config, build: Any) -> None:
    add_captions(build, two_of_three)
    settings = config().fingerprinted_settings()
    assert "caption" not in settings and config(caption="simple").fingerprinted_settings() == settings
    assert config(caption="mixed").fingerprinted_settings() == settings | {"caption": "mixed"}
    train(config(steps=2, checkpoint_every=1))
    with pytest.raises(SurdError, match="is of a run with another caption; name another --out"):
        train(config(steps=4, checkpoint_every=1, caption="mixed"))


def test_validation_draws_captions_too_and_the_same_every_time(config: Config, build: Any, tmp_path: Path) -> None:
    add_captions(build, two_of_three)

    def losses(caption: str) -> list[float]:
        asked = config(caption=caption, validate_every=1, validation_shards=build.pattern, out=tmp_path / caption)
        state = TrainState.prepare(asked, lambda note: None)
        adapter = state.snapshot()
        assert adapter is not None
        return [Validator(asked, state).loss(adapter) for _ in range(2)]

    mixed, simple = losses("mixed"), losses("simple")
    assert mixed[0] == mixed[1] and simple[0] == simple[1] and mixed[0] != simple[0]
