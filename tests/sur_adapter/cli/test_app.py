"""``sur-train`` and ``sur-generate`` as typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from sur_adapter.cli import generate as generate_cli
from sur_adapter.cli import train as train_cli
from sur_adapter.cli.app import typer_from_model
from sur_adapter.training.config import TrainConfig


def run(main: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sur", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_base_model_that_is_a_lora_is_one_sentence_and_exit_code_2(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"lora_unet_mid.lora_down.weight": torch.zeros(1)}, tmp_path / "style.safetensors")
    base = ["--base", str(tmp_path / "style.safetensors")]
    flags = ["--shards", build.pattern, "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert run(train_cli.main, monkeypatch, *base, *flags) == 2
    said = capsys.readouterr().err.strip()
    assert "style.safetensors' is a LoRA, which changes a model and is not one; name a whole" in said
    assert "Traceback" not in said and not (tmp_path / "run").exists()


def test_train_then_generate(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    flags = ["--steps", "2", "--batch-size", "4", "--heads", "4", "--feed-forward", "64", "--device", "cpu"]
    assert run(train_cli.main, monkeypatch, "--shards", build.pattern, "--out", out, *flags) == 0
    assert "2 steps, loss" in capsys.readouterr().out
    image = str(tmp_path / "grid.png")
    asked = ["--adapter", out, "--prompt", "red cat", "--prompt", "dog", "--compare", "--steps", "1", "--out", image]
    assert run(generate_cli.main, monkeypatch, *asked) == 0
    assert capsys.readouterr().out.split() == [image]
    assert Image.open(image).format == "PNG"


@pytest.mark.parametrize("module", ["cli.train", "cli.generate"])
def test_help_teaches_and_does_not_wait_for_torch(module: str) -> None:
    lines = [
        "import sys",
        "sys.argv = ['sur', '--help']",
        f"from sur_adapter.{module} import main",
        "try: main()",
        "finally: print('torch' in sys.modules)",
    ]
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Examples" in done.stdout and done.stdout.strip().endswith("False")


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sur_adapter.cli.train", "--shards", "no/surd-{00000..00003}.tar"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --shards: 'no/surd-{00000..00003}.tar' matches no build")
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (train_cli.main, ["--shards", "x", "--steps", "0"], "--steps: 0 is not valid"),
        (train_cli.main, ["--shards", "x", "--eta", "2"], "--eta: 2.0 is not valid"),
        (train_cli.main, ["--shard", "x"], "--shards"),
        (train_cli.main, [], "--shards"),
        (generate_cli.main, ["--adapter", "nowhere", "--prompt", "a"], "--adapter: 'nowhere' holds no config.json"),
        (generate_cli.main, ["--adapter", "nowhere"], "there is no prompt"),
    ],
)
def test_wrong_flags_exit_with_2(
    main: Any, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err


def test_settings_come_from_a_file_and_a_flag_beside_it_wins(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"shards": build.pattern, "out": str(tmp_path / "run"), "steps": 9, "lr": "1e-3", "batch-size": 4}
    settings |= {"heads": 4, "feed-forward": 64, "device": "cpu", "w_llm": 0}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert run(train_cli.main, monkeypatch, "--config", str(file), "--steps", "1") == 0
    assert "1 steps, loss" in capsys.readouterr().out
    # The build as an argument: over the file's, but not beside the flag.
    assert run(train_cli.main, monkeypatch, "no/build", "--config", str(file)) == 2
    assert "'no/build' matches no build" in capsys.readouterr().err
    assert run(train_cli.main, monkeypatch, "no/build", "--shards", build.pattern) == 2
    assert "--shards: is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shards: x\nlearning_rate: 1", "sets 'learning_rate', which is not a setting"),
        ("shards: x\nbatchsize: 1", "sets 'batchsize', which is not a setting; write 'batch_size'"),
        ("shards: x\nsteps: none", "--steps: 'none' is not valid"),
        ("- 1", "is not a mapping of settings"),
        ("a: [", "cannot be read"),
        ("steps: 3", "--shards: is missing"),
    ],
)
def test_a_settings_file_that_is_wrong_is_one_sentence(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.yaml").write_text(text)
    assert run(train_cli.main, monkeypatch, "--config", str(tmp_path / "train.yaml")) == 2
    assert says in capsys.readouterr().err


def test_the_authors_settings_are_the_defaults_of_their_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainConfig] = []
    app = typer_from_model(TrainConfig, asked.append)
    app(["--shards", "x", "--objective", "authors", "--lr", "1e-4"], standalone_mode=False)
    app(["--shards", "x"], standalone_mode=False)
    theirs, ours = asked
    assert (theirs.lr, theirs.w_llm, theirs.batch_size, theirs.accumulate) == (1e-4, 1e-5, 1, 4)
    assert (ours.lr, ours.w_llm, ours.attention_axis) == (1e-4, 0.1, "token")
