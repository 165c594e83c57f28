"""The authors' checkpoints: read, computed to 1e-5 as their class does, and written so that it reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sur_adapter
from sur_adapter.adapter import SURAdapter
from sur_adapter.authors_checkpoint import export_authors_checkpoint, load_authors_checkpoint
from sur_adapter.training.losses import kl
from surd.schemas.errors import SurdError
from tests.sur_adapter.authors_class import AuthorsClass

PARITY = Path(__file__).parents[3] / "shared/parity/seed_adapter_d64.safetensors"
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def made(width: int = 32, depth: int = 2, strength: float = 0.1) -> AuthorsClass:
    """Their class with weights such as training leaves: none of them zero."""
    torch.manual_seed(1)
    module = AuthorsClass(width, depth, strength)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return module.eval()


def saved(module: Any, folder: Path, name: str = "sd_llama_adapterw0.1") -> Path:
    path = folder / name / "adapter_checkpoint5000.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), path)
    return path


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("width", "depth"), [(32, 2), (64, 1), (40, 3)])
def test_a_checkpoint_of_any_width_and_depth_computes_what_their_class_does(
    tmp_path: Path, batch: int, width: int, depth: int
) -> None:
    module = made(width, depth)
    x = torch.randn(batch, 77, width)
    ours = sur_adapter.load_authors_checkpoint(saved(module, tmp_path))
    assert not ours.training
    for mine, other in zip(ours(x), module(x), strict=True):
        torch.testing.assert_close(mine, other, **TOLERANCE)


@pytest.mark.parametrize("name", ["b1", "b3"])
@pytest.mark.skipif(not PARITY.exists(), reason="the authors' vectors are not beside this checkout")
def test_the_authors_own_outputs_and_losses(tmp_path: Path, name: str) -> None:
    vectors = load_file(PARITY)
    path = tmp_path / "x_adapterw0.1" / "a.pt"
    path.parent.mkdir()
    state = {key.removeprefix("state."): x for key, x in vectors.items() if key.startswith("state.")}
    torch.save(state, path)
    y, h, o = load_authors_checkpoint(path)(vectors[f"{name}.x"])
    losses = {
        "llm_loss": kl(vectors[f"{name}.llm_target"], h, reduction="batch")[None],
        "prompt_loss": kl(vectors[f"{name}.prompt_target"], y, reduction="batch")[None],
    }
    for key, ours in ({"y": y, "h": h, "o": o} | losses).items():
        torch.testing.assert_close(ours, vectors[f"{name}.{key}"], **TOLERANCE)


def test_alone_a_prompt_means_the_same_across_the_batch_and_by_itself(tmp_path: Path) -> None:
    path = saved(made(), tmp_path)
    x = torch.randn(3, 77, 32)
    across, itself = (load_authors_checkpoint(path, attention_axis=axis) for axis in ("batch", "self"))
    assert (across(x)[0] - itself(x)[0]).abs().max() > 1e-3, "neighbours matter across the batch"
    for row, whole in zip(x, itself(x)[0], strict=True):
        torch.testing.assert_close(across(row[None])[0][0], whole, **TOLERANCE)


@pytest.mark.parametrize(
    ("folder", "strength"),
    [("x_adapterw0.1", 0.1), ("a_adapterw1", 1.0), ("a_adapterw0.05_b", 0.05), ("adapterw1e-2", 0.01)],
)
def test_strength_is_read_from_the_folders_name(tmp_path: Path, folder: str, strength: float) -> None:
    loaded = load_authors_checkpoint(saved(made(), tmp_path, folder))
    assert loaded.adapter.config["eta"] == strength


def test_strength_that_is_given_wins_and_strength_that_is_nowhere_is_asked_for(tmp_path: Path) -> None:
    path = saved(made(strength=0.3), tmp_path)
    x = torch.randn(1, 77, 32)
    torch.testing.assert_close(load_authors_checkpoint(path, strength=0.3)(x)[0], made(strength=0.3)(x)[0], **TOLERANCE)
    with pytest.raises(SurdError, match=r"names no strength.*pass strength=0.1"):
        load_authors_checkpoint(saved(made(), tmp_path, "plain"))


def test_what_is_read_is_written_back_tensor_for_tensor(tmp_path: Path) -> None:
    module = made()
    export_authors_checkpoint(load_authors_checkpoint(saved(module, tmp_path)), tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert len(back) == 48
    assert all(torch.equal(back[name], tensor) for name, tensor in module.state_dict().items())


def test_an_adapter_of_ours_loads_strictly_into_their_class(tmp_path: Path) -> None:
    torch.manual_seed(2)
    ours = SURAdapter(width=32, llm_width=24, attention_axis="batch", residual=False, mask_padding=False).eval()
    torch.nn.init.normal_(ours.fc.weight)
    export_authors_checkpoint(ours, tmp_path / "ours.pt")
    module = AuthorsClass(32)
    module.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    x = torch.randn(2, 77, 32)
    torch.testing.assert_close(ours(x).states, module.eval()(x)[0], **TOLERANCE)
    with pytest.raises(SurdError, match=r"no residual output; train with --objective authors"):
        export_authors_checkpoint(SURAdapter(width=32), tmp_path / "no.pt")


def test_an_adapter_of_theirs_is_saved_as_ours_with_its_strength(tmp_path: Path) -> None:
    loaded = load_authors_checkpoint(saved(made(), tmp_path), attention_axis="self")
    loaded.adapter.save_pretrained(tmp_path / "ours")
    again = SURAdapter.from_pretrained(tmp_path / "ours")
    x = torch.randn(2, 77, 32)
    torch.testing.assert_close(again(x).states, loaded(x)[0])


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/unpickled"),))


def test_what_is_no_checkpoint_of_theirs_is_one_sentence(tmp_path: Path) -> None:
    module = made().state_dict()
    spoiled = {
        "evil": {"fc.weight": Evil()},
        "list": [1, 2],
        "short": {name: x for name, x in module.items() if name != "attention.key_layer.weight"},
        "bent": module | {"fc.weight": torch.zeros(3, 3)},
        "other": {"weight": torch.zeros(3)},
    }
    for name, content in spoiled.items():
        path = tmp_path / f"{name}_adapterw0.1.pt"
        torch.save(content, path)
        with pytest.raises(SurdError, match=rf"{name}_adapterw0\.1\.pt: .*; give the(ir)? .*checkpoint$"):
            load_authors_checkpoint(path)
    (tmp_path / "text_adapterw0.1.pt").write_text("hello")
    for name in ("text", "gone"):
        with pytest.raises(SurdError, match=re.escape(f"{name}_adapterw0.1.pt")):
            load_authors_checkpoint(tmp_path / f"{name}_adapterw0.1.pt")
    assert not Path("/tmp/unpickled").exists()
