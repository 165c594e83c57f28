"""The adapter starts as the identity, keeps prompts apart and comes back from disk as it went."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sur_adapter.adapter import AdapterAttention, SURAdapter, align_tokens

PARITY = Path(__file__).parents[3] / "shared/parity/seed_adapter_d64.safetensors"


def adapter(**config: object) -> SURAdapter:
    torch.manual_seed(0)
    return SURAdapter(**({"width": 32, "llm_width": 24, "heads": 4, "feed_forward": 64} | config)).eval()


def trained(**config: object) -> SURAdapter:
    module = adapter(**config)
    torch.nn.init.normal_(module.fc.weight)
    torch.nn.init.normal_(module.fc.bias)
    return module


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask() -> torch.Tensor:
    return (torch.arange(16) < torch.tensor([[5], [9], [16]])).long()


@pytest.mark.parametrize("eta", [0.1, 0.7, 1.0])
def test_an_untrained_adapter_returns_its_input_bit_for_bit(x: torch.Tensor, mask: torch.Tensor, eta: float) -> None:
    untrained = adapter(eta=eta).train()  # dropout on: it must not matter either
    assert torch.equal(untrained(x, mask).states, x)
    assert torch.equal(untrained(x).states, x)


def test_strength_scales_how_far_a_trained_adapter_moves(x: torch.Tensor) -> None:
    weak, strong = (trained(eta=eta)(x).states - x for eta in (0.1, 0.4))
    assert weak.abs().max() > 0.01
    torch.testing.assert_close(strong, 4 * weak, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_for_real_tokens(x: torch.Tensor, mask: torch.Tensor) -> None:
    module = trained()
    garbage = torch.where(mask[..., None].bool(), x, torch.full_like(x, 50.0))
    for before, after in zip(module(x, mask).values(), module(garbage, mask).values(), strict=True):
        torch.testing.assert_close(before[mask.bool()], after[mask.bool()])


def test_prompts_of_a_batch_do_not_influence_each_other_but_tokens_of_a_prompt_do(x: torch.Tensor) -> None:
    module = trained()
    together = module(x).states
    alone = torch.cat([module(row[None]).states for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    changed = x.clone()
    changed[0, 3] += 1
    assert (module(changed).states[0, 7] - together[0, 7]).abs().max() > 1e-4


def test_llm_targets_have_the_text_width_a_fixed_scale_and_no_common_constant(x: torch.Tensor) -> None:
    vectors = 50 + torch.randn(200, 24) * torch.logspace(-2, 2, 24)
    module = adapter()
    module.llm_mean, module.llm_std = vectors.mean(0), vectors.std(0)
    assert module(x, llm=vectors[:3]).llm_target.shape == (3, 1, 32)
    targets = module.project_llm(vectors)[:, 0]
    torch.testing.assert_close(targets.std(dim=1, correction=0), torch.ones(200), rtol=1e-3, atol=1e-3)
    assert targets.mean(dim=0).abs().max() < 0.3


def test_of_two_equally_long_prompts_each_text_token_meets_the_llm_token_at_its_place() -> None:
    llm = torch.randn(1, 5, 24)
    full = torch.ones(1, 5)
    torch.testing.assert_close(align_tokens(llm, full, full), llm)


def test_a_longer_sentence_is_laid_over_a_shorter_one_from_end_to_end_and_padding_never_enters() -> None:
    llm = torch.tensor([[[0.0], [1.0], [2.0], [3.0], [torch.nan]], [[7.0], [torch.nan]] + 3 * [[torch.nan]]])
    llm_mask = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0, 0]])
    laid = align_tokens(llm, llm_mask, mask)[..., 0]
    torch.testing.assert_close(laid[0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))
    assert (laid[1] == 7).all(), "one LLM token stands for every text token"


def test_token_level_targets_are_a_target_for_every_token(x: torch.Tensor, mask: torch.Tensor) -> None:
    module = adapter()
    states = torch.randn(3, 6, 24)
    target = module(x, mask, states, torch.ones(3, 6)).llm_target
    assert target.shape == (3, 16, 32)
    assert (target[2, 0] - target[2, 15]).abs().max() > 0.1
    assert torch.equal(target[0, 4], target[0, 15]), "padding repeats the last real token's"


@pytest.mark.parametrize(
    ("axis", "tokens", "prompts"), [("token", True, False), ("batch", False, True), ("self", False, False)]
)
def test_the_attention_axis_decides_whom_a_tokens_encoder_state_depends_on(
    x: torch.Tensor, axis: str, tokens: bool, prompts: bool
) -> None:
    module = trained(attention_axis=axis)
    before = module(x).encoder_states
    changed = x.clone()
    changed[0, 3] += torch.randn(32)
    moved = (module(changed).encoder_states - before).abs().amax(dim=-1) > 1e-5
    assert moved[0, 3] and bool(moved[0, 7]) is tokens and bool(moved[1, 3]) is prompts


def test_without_the_padding_mask_padding_counts(x: torch.Tensor, mask: torch.Tensor) -> None:
    module = trained(mask_padding=False)
    garbage = torch.where(mask[..., None].bool(), x, torch.full_like(x, 5.0))
    assert (module(x, mask).states - module(garbage, mask).states)[0, 0].abs().max() > 1e-4


def test_a_random_projection_is_saved_and_never_trained(tmp_path: Path, x: torch.Tensor) -> None:
    module = adapter(projection="random", llm_standardise=False)
    assert not module.llm_projection.weight.requires_grad
    module.save_pretrained(tmp_path)
    again = SURAdapter.from_pretrained(tmp_path)
    assert torch.equal(again.llm_projection.weight, module.llm_projection.weight)
    assert not again.llm_projection.weight.requires_grad
    vectors = torch.randn(3, 24)
    torch.testing.assert_close(module(x, llm=vectors).llm_target[:, 0], vectors @ module.llm_projection.weight.T)


def test_dropout_is_on_in_training_alone(x: torch.Tensor) -> None:
    module = trained()
    assert torch.equal(module(x).states, module(x).states)
    module.train()
    assert not torch.equal(module(x).states, module(x).states)


def test_saving_and_loading_gives_the_same_bits_and_the_whole_config(tmp_path: Path, x: torch.Tensor) -> None:
    module = trained(eta=0.3, base_model="package:some/model", llm_column="llm-tiny-l2", objective="all")
    module.save_pretrained(tmp_path)
    loaded = SURAdapter.from_pretrained(tmp_path)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert loaded.config["eta"] == 0.3 and loaded.config["base_model"] == "package:some/model"
    assert not loaded.training
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in module.state_dict().items())
    assert torch.equal(loaded(x).states, module(x).states)


@pytest.mark.skipif(not PARITY.exists(), reason="the authors' vectors are not beside this checkout")
@pytest.mark.parametrize("batch", ["b1", "b3"])
def test_the_attention_block_computes_what_the_authors_class_does(batch: str) -> None:
    vectors = load_file(PARITY)
    block, fc = AdapterAttention(64), torch.nn.Linear(64, 64)
    for module, prefix in ((block, "state.attention."), (fc, "state.fc.")):
        module.load_state_dict({name: vectors[prefix + name] for name in module.state_dict()})
    output = fc(block(vectors[f"{batch}.x"], vectors[f"{batch}.h"], None))
    torch.testing.assert_close(output, vectors[f"{batch}.o"], rtol=1e-5, atol=1e-5)
