"""The trainer: losses fall, a stopped run continues as if it had not stopped, and mistakes cost one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sur_adapter.adapter import SURAdapter
from sur_adapter.training.config import TrainConfig, TrainResult
from sur_adapter.training.finished import adapter_file
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError

Config = Callable[..., TrainConfig]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "diffusion_pytorch_model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_loss_falls_on_a_tiny_overfit(config: Config, tmp_path: Path, base: Path) -> None:
    result = train(config(steps=60, lr=2e-3, eta=0.5, batch_size=12, caption_dropout=0, w_llm=1, w_prompt=1))
    assert result.loss_last < 0.7 * result.loss_first
    assert result.losses_last["llm"] < 0.5 * result.losses_first["llm"]
    assert result.losses_last["prompt"] < 0.9 * result.losses_first["prompt"]
    written = TrainResult.model_validate_json((tmp_path / "run/train.json").read_text())
    assert written == result and written.steps == 60 and written.base == str(base)
    log = json.loads((tmp_path / "run/log.json").read_text())
    assert len(log) == 60 and set(log[0]) == {"denoise", "llm", "prompt", "loss"}
    row = log[7]
    assert row["loss"] == pytest.approx(row["denoise"] + row["llm"] + row["prompt"], rel=1e-5)


def test_the_denoising_loss_alone_moves_the_adapter(config: Config, tmp_path: Path) -> None:
    result = train(config(steps=2, w_llm=0, w_prompt=0))
    assert set(result.losses_first) == {"denoise"} and result.llm_column is None
    assert weights(tmp_path / "run")["fc.weight"].abs().max() > 0
    assert "llm_projection.weight" not in weights(tmp_path / "run")


def test_the_saved_adapter_knows_what_it_was_trained_on(config: Config, tmp_path: Path, base: Path) -> None:
    train(config(steps=1, eta=0.2))
    saved = SURAdapter.from_pretrained(tmp_path / "run").config
    assert (saved["width"], saved["llm_width"], saved["eta"]) == (32, 24, 0.2)
    assert (saved["base_model"], saved["llm_column"]) == (str(base), "llm-tiny-l2")


def test_a_resumed_run_equals_an_uninterrupted_one(config: Config, tmp_path: Path) -> None:
    whole = train(config(steps=7, checkpoint_every=3, out=tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill(step: int, losses: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(config(steps=7, checkpoint_every=3, out=tmp_path / "stopped"), kill)
    torch.manual_seed(12345)
    resumed = train(config(steps=7, checkpoint_every=3, out=tmp_path / "stopped"))
    assert resumed.resumed_from == 3
    assert same(tmp_path / "whole", tmp_path / "stopped")
    logs = [(tmp_path / name / "log.json").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert (resumed.loss_first, resumed.loss_last) == (whole.loss_first, whole.loss_last)


def test_a_finished_run_has_nothing_left_and_more_steps_continue_it(config: Config, tmp_path: Path) -> None:
    train(config(steps=3))
    before = weights(tmp_path / "run")
    steps: list[int] = []
    again = train(config(steps=3), lambda step, _: steps.append(step))
    assert again.resumed_from == 3 and not steps
    assert all(torch.equal(before[name], weight) for name, weight in weights(tmp_path / "run").items())
    assert train(config(steps=5), lambda step, _: steps.append(step)).resumed_from == 3 and steps == [4, 5]


def test_no_resume_starts_over_where_no_adapter_is_finished(config: Config, tmp_path: Path) -> None:
    train(config(steps=2))
    adapter_file(tmp_path / "run").unlink()
    assert train(config(steps=2, lr=1e-2, resume=False)).resumed_from == 0


def test_a_finished_adapter_is_replaced_only_with_overwrite(config: Config, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    assert train(config(steps=3)).steps == 3
    before = files()
    for fields, sentence in (
        ({"steps": 2}, "of 3 steps, and --steps is 2"),
        ({"steps": 3, "resume": False}, "--no-resume would train it anew"),
        ({"steps": 3, "lr": 1e-2}, "another lr"),
        ({"steps": 3, "shards": "gone-{0..1}.tar"}, "matches no build"),
    ):
        with pytest.raises(SurdError, match=sentence):
            train(config(**fields))
    assert train(config(steps=3)).resumed_from == 3
    assert files() == before
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(SurdError, match=r"no checkpoint of it.*--overwrite"):
        train(config(steps=3))
    assert train(config(steps=2, overwrite=True)).resumed_from == 0


def test_a_finished_adapter_that_lost_its_weights_is_written_again(config: Config, tmp_path: Path) -> None:
    train(config(steps=2))
    (weights_file,) = (tmp_path / "run").glob("*.safetensors")
    before = weights_file.read_bytes()
    weights_file.unlink()
    assert train(config(steps=2)).resumed_from == 2
    assert weights_file.read_bytes() == before


def test_a_folder_of_another_model_is_not_written_over(config: Config, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(SurdError, match=r"or another model: there is no train\.json"):
        train(config(steps=1))


def test_a_training_that_cannot_begin_leaves_no_folder(config: Config, tmp_path: Path) -> None:
    with pytest.raises(SurdError):
        train(config(shards="gone-{0..1}.tar"))
    assert not (tmp_path / "run").exists()


def test_only_the_newest_checkpoints_stay_and_half_written_ones_do_not_count(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    (folder / ".step-000009.tmp").mkdir(parents=True)
    assert train(config(steps=6, checkpoint_every=2)).resumed_from == 0
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-000004", "step-000006"]
    files = {file.suffix for file in (folder / "step-000006").iterdir()}
    assert files == {".safetensors", ".json"}


def test_a_checkpoint_of_other_settings_or_other_data_is_refused(config: Config, build: Any) -> None:
    train(config(steps=1))
    with pytest.raises(SurdError, match=r"another lr, seed; name another --out, or replace it with --overwrite"):
        train(config(steps=2, lr=1e-2, seed=5))
    with pytest.raises(SurdError, match="another data"):
        train(config(steps=2, shards=f"{build.root}/shards/surd-00000.tar"))


def test_a_loss_that_is_no_number_stops_with_step_and_keys(config: Config, base: Path, tmp_path: Path) -> None:
    sick = shutil.copytree(base, tmp_path / "sick")
    file = sick / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(file).items()}, file)
    with pytest.raises(SurdError, match=r"non-finite loss at step 1 .*'denoise': nan.*keys [0-9a-f]{16}, [0-9a-f]{16}"):
        train(config(steps=3, base=str(sick)))
    assert not (tmp_path / "run/train.json").exists(), "an adapter that saw NaN is not saved"


def test_what_the_user_can_mend_is_one_sentence_naming_the_flag(
    config: Config, build: Any, tmp_path: Path, base: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"shards": str(tmp_path / "no-{0..3}.tar")}, r"--shards: .* matches no build"),
        ({"llm_column": "llm-none"}, r"--llm-column is llm-none.*present: llm-tiny-l2.*--w-llm 0"),
        ({"base": str(tmp_path / "gone")}, r"--base: .*gone.*no such folder"),
        ({"base": str(tmp_path)}, r"--base: .* has no model_index.json"),
        ({"heads": 5}, r"--heads: 5 does not divide .*width 32"),
        ({"out": file / "run"}, r"--out: .* cannot be written"),
        ({"w_denoise": 0, "w_prompt": 0}, r"--w-denoise and --w-prompt are both 0"),
    ]
    if not torch.cuda.is_available():
        mistakes.append(({"device": "cuda"}, r"--device: 'cuda' needs a GPU"))
    for fields, sentence in mistakes:
        with pytest.raises(SurdError, match=sentence):
            train(config(**fields))


def test_a_half_copied_base_model_is_the_users_to_mend(config: Config, base: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "model_index.json").write_text((base / "model_index.json").read_text())
    with pytest.raises(SurdError, match=r"--base: .* has no folder 'scheduler'; copy the whole model, or name another"):
        train(config(base=str(half)))
