"""Checkpoints on a disk that fails: what is whole stays, and what went wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sur_adapter.training.checkpoint import Checkpoint, Checkpoints
from surd.schemas.errors import SurdError


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """One checkpoint is kept."""
    return Checkpoints(tmp_path / "checkpoints", {"seed": 0}, keep=1)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step, tensors={"adapter": {"fc.bias": torch.full((4,), float(step))}}, log=[{"loss": 1.0}] * step
    )


def names(checkpoints: Checkpoints) -> list[str]:
    return [folder.name for folder in checkpoints.steps()]


def cut(folder: Path) -> None:
    file = folder / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def test_a_damaged_newer_checkpoint_does_not_push_out_the_good_one(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint(4))
    cut(checkpoints.folder / "step-000004")
    checkpoints.save(checkpoint(2))
    assert "step-000002" in names(checkpoints)
    said: list[str] = []
    found = checkpoints.load(10, said.append)
    assert found is not None
    assert found.step == 2
    assert len(said) == 1
    checkpoints.save(checkpoint(4))
    assert names(checkpoints) == ["step-000004"], "written again, it is the newest"


def test_the_last_good_checkpoint_is_one_that_can_be_loaded(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() == "there is no checkpoint yet"
    checkpoints.save(checkpoint(4))
    cut(checkpoints.folder / "step-000004")
    assert checkpoints.newest() == "there is no checkpoint yet"
    checkpoints.save(checkpoint(2))
    assert checkpoints.newest().endswith("step-000002")


def test_a_checkpoint_that_cannot_be_written_is_one_sentence_and_the_one_before_stays(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(checkpoint(2))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sur_adapter.training.checkpoint.save_file", full)
    with pytest.raises(SurdError, match=r"--out: .*step 3 .*No space left.*last good checkpoint is .*step-000002"):
        checkpoints.save(checkpoint(3))
    assert names(checkpoints) == ["step-000002"]


def test_a_file_in_the_way_of_the_checkpoints_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(SurdError, match=r"--out: .*checkpoints: the checkpoint of step 1 cannot be written"):
        Checkpoints(tmp_path / "checkpoints", {}).save(checkpoint(1))
