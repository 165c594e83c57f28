"""LAION's aesthetic head: both published shapes, and what is none."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from surd.pretrained.aesthetic import check_width, load_aesthetic_head
from surd.schemas import SurdError


def improved() -> nn.Sequential:
    """The layers of the improved aesthetic predictor."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
        nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["layers.", ""])
def test_a_head_gives_what_its_layers_give(tmp_path, suffix, prefix):
    network = improved() if prefix else nn.Linear(768, 1)
    tensors = {prefix + name: value.contiguous() for name, value in network.state_dict().items()}
    file = tmp_path / f"head{suffix}"
    save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
    embeddings = np.random.default_rng(0).standard_normal((5, 768)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(embeddings))[:, 0].numpy()
    head = load_aesthetic_head(str(file))
    assert head.width == 768 and head.scores(embeddings) == pytest.approx(expected, abs=1e-4)
    assert head.scores(embeddings[:2]).tolist() == head.scores(embeddings)[:2].tolist(), "whatever is beside it"


def zeros(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name.replace("_", "."): torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        zeros(weight=(2, 768), bias=(2,)),
        zeros(weight=(1, 768)),
        zeros(weight=(1, 768), bias=(1,), more=(1,)),
        zeros(weight=(768,), bias=(1,)),
        zeros(layers_0_weight=(8, 768), layers_0_bias=(8,), layers_2_weight=(1, 9), layers_2_bias=(1,)),
    ],
)
def test_what_is_no_head_is_one_sentence(tmp_path, tensors):
    torch.save(tensors, tmp_path / "head.pth")
    with pytest.raises(SurdError, match=r"score.aesthetic is .*head.pth.*LAION's"):
        load_aesthetic_head(str(tmp_path / "head.pth"))


def test_a_missing_file_and_embeddings_of_another_width_are_one_sentence(tmp_path):
    with pytest.raises(SurdError, match=r"score.aesthetic is .*cannot be read"):
        load_aesthetic_head(str(tmp_path / "none.pth"))
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "head.pth")
    head = load_aesthetic_head(str(tmp_path / "head.pth"))
    with pytest.raises(SurdError, match=r"768 numbers, and those of models.clip 'demo' have 512"):
        check_width(head, 512, "head.pth", "demo")
