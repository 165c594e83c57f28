"""The three losses: the authors' divergence to the digit, and a denoising loss that really teaches the adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from sur_adapter.training.conditions import Conditioner, Conditions
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.losses import denoising_loss, denoising_target, draw_noise, kl, min_snr_weights
from sur_adapter.training.objective import make_objective
from sur_adapter.training.state import make_adapter
from surd.schemas.errors import SurdError
from tests.sur_adapter.authors_class import AuthorsClass, divergence

PARITY = Path(__file__).parents[4] / "shared/parity/seed_adapter_d64.safetensors"


@pytest.mark.skipif(not PARITY.exists(), reason="the authors' vectors are not beside this checkout")
@pytest.mark.parametrize("batch", ["b1", "b3"])
@pytest.mark.parametrize(
    ("loss", "target", "student"), [("llm_loss", "llm_target", "h"), ("prompt_loss", "prompt_target", "y")]
)
def test_kl_matches_the_authors_losses(batch: str, loss: str, target: str, student: str) -> None:
    vectors = load_file(PARITY)
    ours = kl(vectors[f"{batch}.{target}"], vectors[f"{batch}.{student}"], reduction="batch")
    torch.testing.assert_close(ours[None], vectors[f"{batch}.{loss}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_two_directions_are_torchs_own_divergence_with_the_arguments_exchanged(temperature: float) -> None:
    target, student = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    p, q = ((states / temperature).log_softmax(-1) for states in (target, student))
    both = {"forward": (q, p), "reverse": (p, q)}
    for direction, (one, other) in both.items():
        expected = torch.nn.functional.kl_div(one, other, log_target=True, reduction="sum") / 10 * temperature**2
        ours = kl(target, student, direction=direction, temperature=temperature)  # type: ignore[arg-type]
        torch.testing.assert_close(ours, expected)


def test_only_forward_pulls_on_what_the_adapter_gives_nearly_nothing() -> None:
    target = torch.tensor([[[0.0, 0.0, 8.0]]])
    student = torch.tensor([[[8.0, 0.0, -8.0]]], requires_grad=True)
    pulls = {
        way: float(torch.autograd.grad(kl(target, student, direction=way), student)[0][0, 0, 2])  # type: ignore[arg-type]
        for way in ("forward", "reverse")
    }
    assert pulls["forward"] < -0.9 and abs(pulls["reverse"]) < 1e-4


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
    with pytest.raises(SurdError, match=r"flow"):
        denoising_target(velocity, latents, noise, timesteps)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weighs_every_prediction_type_as_the_same_error_of_the_sample(kind: str) -> None:
    scheduler = DDPMScheduler(prediction_type=kind)
    timesteps = torch.tensor([0, 300, 999])
    snr = scheduler.alphas_cumprod[timesteps] / (1 - scheduler.alphas_cumprod[timesteps])
    unit = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(3)}[kind]
    torch.testing.assert_close(min_snr_weights(scheduler, timesteps, 5.0), snr.clamp(max=5) / unit)


def test_min_snr_is_finite_where_nothing_is_left_of_the_signal() -> None:
    scheduler = DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert float(scheduler.alphas_cumprod[-1]) < 1e-6
    assert min_snr_weights(scheduler, torch.tensor([999]), 5.0).isfinite().all()


def test_min_snr_enters_the_loss_sample_by_sample() -> None:
    scheduler = DDPMScheduler()

    class Nothing:
        dtype = torch.float32

        def __call__(self, noisy: torch.Tensor, *_: object, **__: object) -> object:
            return type("Out", (), {"sample": torch.zeros_like(noisy)})

    latents, noise, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([10, 400, 900])
    arguments = (Nothing(), scheduler, latents, noise, timesteps, torch.zeros(3, 2, 4))
    errors = noise.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(denoising_loss(*arguments), errors.mean())
    weighted = (errors * min_snr_weights(scheduler, timesteps, 5.0)).mean()
    torch.testing.assert_close(denoising_loss(*arguments, min_snr_gamma=5.0), weighted)


def test_noise_offset_moves_a_whole_channel() -> None:
    torch.manual_seed(0)
    latents = torch.zeros(64, 4, 16, 16)
    assert draw_noise(latents).mean(dim=(2, 3)).std() == pytest.approx(1 / 16, rel=0.2)
    assert draw_noise(latents, 0.5).mean(dim=(2, 3)).std() == pytest.approx(0.5, rel=0.2)


def given(config: TrainConfig) -> tuple[torch.nn.Module, Conditions, Conditioner]:
    data, base = open_data(config)
    conditioner = Conditioner(config, data, base, torch.device("cpu"), print)
    module = make_adapter(config, 32, data, base)
    batch = next(iter(data.loader(batch_size=4, image_size=32, seed=0)))
    torch.manual_seed(0)
    return module, conditioner(batch), conditioner


def test_the_denoising_gradient_reaches_the_adapter_through_the_frozen_unet(config: Callable[..., TrainConfig]) -> None:
    asked = config(w_llm=0, w_prompt=0)
    module, conditions, conditioner = given(asked)
    losses = make_objective(conditioner.pipe, asked)(module, conditions)
    assert set(losses) == {"denoise", "loss"}
    losses["denoise"].backward()
    assert module.fc.weight.grad.abs().max() > 0 and module.fc.bias.grad.abs().max() > 0
    assert all(weight.grad is None and not weight.requires_grad for weight in conditioner.pipe.unet.parameters())


@pytest.mark.parametrize("only", ["w_denoise", "w_prompt"])
def test_past_the_first_step_every_loss_teaches_the_encoder_too(config: Callable[..., TrainConfig], only: str) -> None:
    asked = config(**({"w_denoise": 0, "w_llm": 0, "w_prompt": 0} | {only: 1}))
    module, conditions, conditioner = given(asked)
    torch.nn.init.normal_(module.fc.weight)
    make_objective(conditioner.pipe, asked)(module, conditions)["loss"].backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in module.parameters())


def test_a_dropped_caption_has_no_part_in_the_text_losses(config: Callable[..., TrainConfig]) -> None:
    asked = config(caption_dropout=0.9999)
    module, conditions, conditioner = given(asked)
    assert not conditions.kept_B.any() and (conditions.simple_BTD == conditions.simple_BTD[:1]).all()
    losses = make_objective(conditioner.pipe, asked)(module, conditions)
    assert losses["llm"] == losses["prompt"] == 0
    assert losses["denoise"] > 0


def test_the_authors_objective_is_theirs_to_the_digit_and_denoising_teaches_nothing(
    config: Callable[..., TrainConfig],
) -> None:
    shared = config().model_dump(include={"shards", "out", "device"})
    asked = TrainConfig.model_validate(shared | {"objective": "authors"})
    module, conditions, conditioner = given(asked)
    bias = module.fc.bias
    assert bias.abs().max() > 0, "their start mixes a random bias into every prompt"
    assert not module.llm_projection.weight.requires_grad
    losses = make_objective(conditioner.pipe, asked)(module.eval(), conditions)
    theirs = AuthorsClass(32)
    theirs.load_state_dict({name: x for name, x in module.state_dict().items() if "llm" not in name}, strict=False)
    y, h, _ = theirs.eval()(conditions.simple_BTD)
    target = module.llm_projection(conditions.llm)[:, None, :]
    torch.testing.assert_close(losses["llm"], divergence(target, h), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["prompt"], divergence(conditions.complex_BTD, y), rtol=1e-5, atol=1e-5)
    assert losses["denoise"] > 0 and not losses["denoise"].requires_grad
    expected = losses["denoise"] + 1e-5 * (losses["llm"] + losses["prompt"])
    torch.testing.assert_close(losses["loss"], expected)


def test_alone_in_its_batch_the_authors_encoder_learns_no_query_and_no_key(config: Callable[..., TrainConfig]) -> None:
    shared = config().model_dump(include={"shards", "out", "device", "feed_forward"})
    asked = TrainConfig.model_validate(shared | {"objective": "authors"})
    module, conditions, conditioner = given(asked)
    torch.nn.init.normal_(module.fc.weight)
    one = Conditions(
        simple_BTD=conditions.simple_BTD[:1],
        mask_BT=conditions.mask_BT[:1],
        kept_B=conditions.kept_B[:1],
        complex_BTD=conditions.complex_BTD[:1],
        latents=conditions.latents[:1],
        llm=conditions.llm[:1],
    )
    make_objective(conditioner.pipe, asked)(module, one)["loss"].backward()
    for layer in module.transformer_encoder.layers:
        query_and_key, value = layer.self_attn.in_proj_weight.grad.split([64, 32])
        assert query_and_key.abs().max() == 0 and value.abs().max() > 0
