"""What can be asked of a training beside its objective, each seen to do what its name says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import is_wandb_available
from safetensors.torch import load_file, save_file

from sur_adapter.adapter import SURAdapter
from sur_adapter.training.config import Stopped, TrainConfig
from sur_adapter.training.trainer import learning_rates, train
from surd.schemas.errors import SurdError

Config = Callable[..., TrainConfig]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "diffusion_pytorch_model.safetensors")


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_passes_of_four_teach_what_one_of_eight_does(config: Config, tmp_path: Path) -> None:
    calm = {"dropout": 0, "caption_dropout": 0, "w_denoise": 0, "w_llm": 0, "steps": 3, "lr": 1e-3}
    train(config(out=tmp_path / "one", batch_size=8, **calm))
    train(config(out=tmp_path / "two", batch_size=4, accumulate=2, **calm))
    assert far(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5


def test_gradient_checkpointing_changes_no_number(config: Config, tmp_path: Path) -> None:
    logs = [train(config(out=tmp_path / str(on), gradient_checkpointing=on)).losses_last for on in (False, True)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_bf16_trains_and_saves_float32(config: Config, tmp_path: Path) -> None:
    exact = train(config(steps=3, w_llm=0, out=tmp_path / "exact"))
    half = train(config(steps=3, w_llm=0, out=tmp_path / "half", mixed_precision="bf16"))
    assert half.losses_last["denoise"] == pytest.approx(exact.losses_last["denoise"], rel=0.2)
    assert half.losses_last != exact.losses_last
    assert {tensor.dtype for tensor in weights(tmp_path / "half").values()} == {torch.float32}


@pytest.mark.slow
def test_compiled_networks_learn_the_same(config: Config, tmp_path: Path) -> None:
    calm = {"dropout": 0, "w_llm": 0, "steps": 2}
    logs = [train(config(out=tmp_path / str(on), compile=on, **calm)).losses_last for on in (False, True)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)
    assert weights(tmp_path / "True").keys() == weights(tmp_path / "False").keys()


def test_the_running_average_lags_behind_and_outlives_a_restart(config: Config, tmp_path: Path) -> None:
    asked = {"lr": 1e-2, "ema_decay": 0.9, "checkpoint_every": 2}
    train(config(steps=6, out=tmp_path / "whole", **asked))
    train(config(steps=4, out=tmp_path / "parts", **asked))
    assert train(config(steps=6, out=tmp_path / "parts", **asked)).resumed_from == 4
    assert far(weights(tmp_path / "whole"), weights(tmp_path / "parts")) == 0
    last = load_file(tmp_path / "whole/checkpoints/step-000006/adapter.safetensors")
    assert far(weights(tmp_path / "whole"), last) > 1e-3, "what is saved is the average, not the last step"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1, 1]), ("linear", [0.5, 1, 1, 0.5, 0]), ("cosine", [0.5, 1, 1, 0.5, 0])],
)
def test_learning_rate_warms_up_and_falls(config: Config, schedule: str, expected: list[float]) -> None:
    rate = learning_rates(config(steps=10, warmup_steps=2, lr_schedule=schedule))
    assert [rate(step) for step in (0, 1, 2, 6, 10)] == pytest.approx(expected)


def test_a_run_whose_learning_rate_falls_is_not_continued_to_other_steps(config: Config) -> None:
    train(config(steps=2, lr_schedule="linear"))
    with pytest.raises(SurdError, match=r"another steps"):
        train(config(steps=3, lr_schedule="linear"))


def test_sigterm_saves_ends_and_continues_to_the_same_bits(config: Config, tmp_path: Path) -> None:
    train(config(steps=6, out=tmp_path / "whole"))

    def ask(step: int, losses: dict[str, float]) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    # The signal is heard in step 3's callback, and the losses of step 4 carry it to every process.
    with pytest.raises(Stopped, match=r"stopped at step 4; the same command continues"):
        train(config(steps=6, checkpoint_every=0, out=tmp_path / "stopped"), ask)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "stopped/train.json").exists()
    assert train(config(steps=6, out=tmp_path / "stopped")).resumed_from == 4
    assert far(weights(tmp_path / "whole"), weights(tmp_path / "stopped")) == 0


@pytest.mark.parametrize("harm", ["cut", "bit", "gone", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(config: Config, tmp_path: Path, harm: str) -> None:
    train(config(steps=6, out=tmp_path / "whole", checkpoint_every=2))
    train(config(steps=4, checkpoint_every=2))
    newest = tmp_path / "run/checkpoints/step-000004"
    file = newest / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    if harm == "gone":
        file.unlink()
    elif harm == "empty":
        (newest / "state.json").write_bytes(b"")
    else:
        file.write_bytes(data[: len(data) // 2] if harm == "cut" else data)
    said: list[str] = []
    result = train(config(steps=6, checkpoint_every=2, w_llm=0.1), warn=said.append)
    assert result.resumed_from == 2
    assert sum("step-000004 is damaged" in one and one.endswith("falling back to the one before") for one in said) == 1
    assert far(weights(tmp_path / "whole"), weights(tmp_path / "run")) == 0


def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(config: Config, base: Path, tmp_path: Path) -> None:
    sick = shutil.copytree(base, tmp_path / "sick")
    train(config(steps=2, checkpoint_every=1, base=str(sick)))
    file = sick / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    # Past what the fingerprint of the weights looks at: as when a disk goes bad under a run.
    tensors["conv_out.weight"].view(-1)[-1] = float("nan")
    save_file(tensors, file)
    sentence = r"non-finite loss at step 3 .*keys [0-9a-f]{16}.*last good checkpoint is .*step-000002"
    with pytest.raises(SurdError, match=sentence):
        train(config(steps=4, checkpoint_every=1, base=str(sick)))


def test_an_llm_column_of_another_model_than_the_checkpoints_is_refused(config: Config, build: Any) -> None:
    train(config(steps=1))
    path = build.root / "columns/llm-tiny-l2/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "other"}))
    with pytest.raises(
        SurdError, match=r"--llm-column: .*step-000001 distilled tiny layer 2.* but .* of other layer 2"
    ):
        train(config(steps=2))


def test_a_run_goes_on_when_its_only_llm_column_is_named(config: Config) -> None:
    train(config(steps=1))
    assert train(config(steps=2, llm_column="llm-tiny-l2")).resumed_from == 1


def test_validation_measures_draws_and_keeps_the_best(config: Config, build: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red cat\ntwo dog\n")
    result = train(
        config(
            shards=f"{build.root}/shards/surd-00000.tar",
            validation_shards=f"{build.root}/shards/surd-00001.tar",
            validation_prompts=prompts,
            validate_every=2,
            tracker="tensorboard",
            lr=1e-2,
        )
    )
    best = json.loads((tmp_path / "run/best/best.json").read_text())
    assert best["step"] == result.best_step and best["validation loss"] > 0
    assert SURAdapter.from_pretrained(tmp_path / "run/best").config["width"] == 32
    drawn = sorted(path.parent.name for path in (tmp_path / "run/validation").glob("*/grid.png"))
    assert drawn == ["step-000002", "step-000004"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((tmp_path / "run").rglob("events.*")).parent)).Reload()
    assert {"loss", "denoise", "llm", "prompt", "lr", "validation loss"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]


def test_validation_does_not_disturb_what_is_learned(config: Config, tmp_path: Path) -> None:
    train(config(out=tmp_path / "without"))
    train(config(out=tmp_path / "with", validate_every=1))
    assert far(weights(tmp_path / "without"), weights(tmp_path / "with")) == 0


def test_what_a_validation_lacks_is_said_before_the_first_step(config: Config, tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("a cat")
    mistakes: list[tuple[dict[str, object], str]] = [
        ({"validation_prompts": tmp_path / "gone.txt", "validate_every": 2}, r"--prompts: .*gone.txt' cannot be read"),
        ({"validation_prompts": plain}, r"--validation-prompts: --validate-every is 0, so nothing is ever validated"),
        ({"validation_judge": "x", "validate_every": 2}, r"--validation-judge: .*; give --validation-prompts too"),
        (
            {"validation_prompts": plain, "validation_judge": str(tmp_path), "validate_every": 2},
            r"--judge: .* cannot be loaded",
        ),
    ]
    for fields, sentence in mistakes:
        with pytest.raises(SurdError, match=sentence):
            train(config(**fields), lambda *_: pytest.fail("it has begun"))


def launched(build: Any, out: Path, processes: int, *more: str) -> subprocess.CompletedProcess[str]:
    flags = ["--heads", "4", "--feed-forward", "64", "--device", "cpu", "--steps", "4", *more]
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes), "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, *launch, "-m", "sur_adapter.cli.train", "--shards", build.pattern, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *flags], capture_output=True, text=True, check=False, env=environment)


def test_two_processes_learn_together_what_one_learns_of_twice_the_batch(build: Any, tmp_path: Path) -> None:
    flags = ("--batch-size", "4", "--w-llm", "0.1", "--checkpoint-every", "2", "--ema-decay", "0.5")
    done = launched(build, tmp_path / "two", 2, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("4 steps, loss") == 1, "one process speaks for all"
    assert len(json.loads((tmp_path / "two/log.json").read_text())) == 4
    checkpoint = load_file(tmp_path / "two/checkpoints/step-000004/adapter.safetensors")
    assert checkpoint.keys() == weights(tmp_path / "two").keys(), "named as without a wrapper around the adapter"
    shorter = launched(build, tmp_path / "parts", 2, *flags, "--steps", "2")
    assert shorter.returncode == 0, shorter.stderr[-3000:]
    again = launched(build, tmp_path / "parts", 2, *flags)
    assert again.returncode == 0 and "continued from step 2" in again.stdout
    assert far(weights(tmp_path / "two"), weights(tmp_path / "parts")) == 0


def test_a_sharded_adapter_is_saved_whole_and_comes_back(tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
    command = [sys.executable, *launch, "-m", "tests.sur_adapter.training.fsdp_round_trip", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(is_wandb_available(), reason="wandb is here")
def test_a_tracker_that_is_not_installed_is_the_users_to_mend(config: Config) -> None:
    with pytest.raises(SurdError, match=r"--tracker: 'wandb' is not installed; pip install wandb"):
        train(config(steps=1, tracker="wandb"))
