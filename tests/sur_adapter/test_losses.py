"""The three losses: the authors' divergence to the digit, and a denoising loss that really teaches the adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from schemas.errors import SurdError
from sur_adapter.base_model import load_base
from sur_adapter.loader import ShardDataset
from sur_adapter.losses import denoising_target, kl
from sur_adapter.train_config import TrainConfig
from sur_adapter.trainer import Objective, make_adapter

PARITY = Path(__file__).parents[3] / "shared/parity/seed_adapter_d64.safetensors"


@pytest.mark.skipif(not PARITY.exists(), reason="the authors' vectors are not beside this checkout")
@pytest.mark.parametrize("batch", ["b1", "b3"])
@pytest.mark.parametrize(
    ("loss", "target", "student"), [("llm_loss", "llm_target", "h"), ("prompt_loss", "prompt_target", "y")]
)
def test_kl_matches_the_authors_losses(batch: str, loss: str, target: str, student: str) -> None:
    vectors = load_file(PARITY)
    ours = kl(vectors[f"{batch}.{target}"], vectors[f"{batch}.{student}"], reduction="batch")
    torch.testing.assert_close(ours[None], vectors[f"{batch}.{loss}"], rtol=1e-5, atol=1e-5)


def test_kl_is_zero_only_for_equal_distributions() -> None:
    states = torch.randn(2, 5, 8)
    assert kl(states, states + 3).abs() < 1e-6, "softmax knows no offset"
    assert kl(states, states * 2) > 1e-3


def test_the_mean_is_per_token_and_blind_to_masked_tokens() -> None:
    target, student = torch.randn(2, 1, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(kl(target, student), kl(target, student, reduction="batch") / 5)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    spoiled = torch.where(mask[..., None].bool(), student, 99 * torch.randn(2, 5, 8))
    torch.testing.assert_close(kl(target, student, mask_BT=mask), kl(target, spoiled, mask_BT=mask))
    assert kl(target, student, mask_BT=torch.zeros(2, 5)) == 0


def test_a_higher_temperature_keeps_the_scale_of_the_gradient() -> None:
    student = torch.randn(1, 1, 64, requires_grad=True)
    target = torch.randn(1, 1, 64)
    norms = [torch.autograd.grad(kl(target, student, temperature=t), student)[0].norm() for t in (4.0, 8.0)]
    assert norms[0] / norms[1] == pytest.approx(1, rel=0.2)


def test_the_denoising_target_follows_the_scheduler() -> None:
    latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    epsilon, velocity, sample = (DDPMScheduler(prediction_type=kind) for kind in ("epsilon", "v_prediction", "sample"))
    assert denoising_target(epsilon, latents, noise, timesteps) is noise
    assert denoising_target(sample, latents, noise, timesteps) is latents
    alpha = velocity.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    expected = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    torch.testing.assert_close(denoising_target(velocity, latents, noise, timesteps), expected)
    velocity.register_to_config(prediction_type="flow")
    with pytest.raises(SurdError, match="flow"):
        denoising_target(velocity, latents, noise, timesteps)


def losses_of(config: TrainConfig, base: Path) -> tuple[torch.nn.Module, dict[str, torch.Tensor], torch.nn.Module]:
    data = ShardDataset(config.shards, llm=config.w_llm > 0)
    pipe = load_base(str(base))
    module = make_adapter(config, pipe, data, str(base))
    batch = next(data.batches(batch_size=4, image_size=32, seed=0))
    return module, Objective(pipe, config)(module, batch), pipe.unet


def test_the_denoising_gradient_reaches_the_adapter_through_the_frozen_unet(
    config: Callable[..., TrainConfig], base: Path
) -> None:
    module, losses, unet = losses_of(config(w_llm=0, w_prompt=0), base)
    assert set(losses) == {"denoise", "loss"}
    losses["denoise"].backward()
    assert module.fc.weight.grad.abs().max() > 0 and module.fc.bias.grad.abs().max() > 0
    assert all(weight.grad is None and not weight.requires_grad for weight in unet.parameters())


@pytest.mark.parametrize("only", ["w_denoise", "w_prompt"])
def test_past_the_first_step_every_loss_teaches_the_encoder_too(
    config: Callable[..., TrainConfig], base: Path, only: str
) -> None:
    weights = {"w_denoise": 0, "w_llm": 0, "w_prompt": 0} | {only: 1}
    data = ShardDataset(config().shards)
    pipe = load_base(str(base))
    module = make_adapter(config(**weights), pipe, data, str(base))
    torch.nn.init.normal_(module.fc.weight)
    batch = next(data.batches(batch_size=4, image_size=32, seed=0))
    Objective(pipe, config(**weights))(module, batch)["loss"].backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in module.parameters())


def test_a_dropped_caption_has_no_part_in_the_text_losses(config: Callable[..., TrainConfig], base: Path) -> None:
    torch.manual_seed(0)
    _, losses, _ = losses_of(config(caption_dropout=0.9999), base)
    assert losses["llm"] == losses["prompt"] == 0
    assert losses["denoise"] > 0
