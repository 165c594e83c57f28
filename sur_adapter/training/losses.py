"""Losses of arXiv 2305.05189: denoising, LLM distillation, prompt alignment."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import (
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
)
from torch import Tensor

from surd.schemas.errors import SurdError

Reduction = Literal["mean", "batch"]
Direction = Literal["forward", "reverse"]


def kl(
    target: Tensor,
    student: Tensor,
    *,
    direction: Direction = "reverse",
    temperature: float = 1.0,
    mask_BT: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Divergence of p = softmax(target / T) and q = softmax(student / T) over the last dimension, a scalar.

    ``reverse`` is the authors' D(target, student) = T^2 * sum q (log q - log p); ``forward``, the usual one of
    distillation, is T^2 * sum p (log p - log q). T^2 keeps the size of the gradient when the temperature changes.
    ``student`` [B, T, D]; ``target`` [B, T, D] or [B, 1, D], then the same for every token. Tokens where ``mask_BT``
    is zero do not count. Computed in float32.

    ``mean`` averages over the tokens that count, so the loss does not depend on how long prompts are or how far they
    are padded, and a weight means the same at 77 tokens as at 300. ``batch`` is the authors' reduction: summed over
    tokens, divided by the batch size only.
    """
    student_log = F.log_softmax(student.float() / temperature, dim=-1)
    target_log = F.log_softmax(target.float() / temperature, dim=-1)
    one, other = (student_log, target_log) if direction == "reverse" else (target_log, student_log)
    tokens_BT = (one.exp() * (one - other)).sum(dim=-1) * temperature**2
    weights_BT = torch.ones_like(tokens_BT) if mask_BT is None else mask_BT.to(tokens_BT.dtype)
    count = weights_BT.sum().clamp(min=1) if reduction == "mean" else len(tokens_BT)
    return (tokens_BT * weights_BT).sum() / count


def denoising_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the UNet is meant to predict under ``scheduler``: epsilon, v or the sample; all [B, C, h, w]."""
    prediction_type = scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    if prediction_type == "sample":
        return latents
    raise SurdError(f"base model: scheduler prediction_type {prediction_type!r} is not epsilon, v_prediction or sample")


def min_snr_weights(scheduler: Any, timesteps: Tensor, gamma: float) -> Tensor:
    """Weight [B] of each sample's denoising loss: min(SNR, gamma) in units of the sample (arXiv 2303.09556).

    An error of epsilon is one of the sample times SNR, an error of v times SNR + 1; so the weight is divided by that.
    """
    alphas_B = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()
    snr_B = alphas_B / (1 - alphas_B).clamp(min=1e-8)
    unit = {"epsilon": snr_B.clamp(min=1e-8), "v_prediction": snr_B + 1, "sample": torch.ones_like(snr_B)}
    weights: Tensor = snr_B.clamp(max=gamma) / unit[scheduler.config.prediction_type]
    return weights


def draw_noise(latents: Tensor, offset: float = 0.0) -> Tensor:
    """Standard normal noise shaped as ``latents`` [B, C, h, w], plus ``offset`` times one number a channel, which
    teaches a model that it may change a picture's mean brightness."""
    noise = torch.randn_like(latents)
    if offset:
        noise = noise + offset * torch.randn(*latents.shape[:2], 1, 1, device=latents.device, dtype=latents.dtype)
    return noise


def is_flow(scheduler: Any) -> bool:
    """Whether a schedule is one of flow matching."""
    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler)


def training_scheduler(pipe: Any, min_snr_gamma: float = 0.0) -> Any:
    """The noise schedule to train on: the base model's own, of all its timesteps.

    SurdError for ``min_snr_gamma`` with flow matching: its weights are of schedules that predict noise.
    """
    if not is_flow(pipe.scheduler):
        return DDPMScheduler.from_config(pipe.scheduler.config)
    if min_snr_gamma:
        raise SurdError(
            f"--min-snr-gamma is {min_snr_gamma}: the base model learns by flow matching, which has no such weights;"
            " leave it out"
        )
    return FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)


def draw_timesteps(scheduler: Any, count: int, device: torch.device) -> Tensor:
    """Timesteps [B] to train at: every one as often, and for flow matching logit-normal (arXiv 2403.03206, section
    3.1, m = 0, s = 1) over the shifted schedule, as diffusers' training scripts of Stable Diffusion 3 have it."""
    steps = scheduler.config.num_train_timesteps
    if not is_flow(scheduler):
        return torch.randint(steps, (count,), device=device)
    places_B = (torch.randn(count, device=device).sigmoid() * steps).long().clamp(max=steps - 1)
    timesteps: Tensor = scheduler.timesteps.to(device)[places_B]
    return timesteps


def noised(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Latents with noise as of ``timesteps`` [B], and what the denoiser is meant to predict there; [B, C, h, w] each.

    Flow matching mixes ``(1 - sigma) * latents + sigma * noise`` and predicts ``noise - latents``.
    """
    if not is_flow(scheduler):
        noisy = scheduler.add_noise(latents, noise, timesteps)
        return noisy, denoising_target(scheduler, latents, noise, timesteps)
    sigmas_B111 = (timesteps / scheduler.config.num_train_timesteps).to(latents.dtype)[:, None, None, None]
    return torch.lerp(latents, noise, sigmas_B111), noise - latents


def predict(
    denoiser: Any,
    noisy: Tensor,
    timesteps: Tensor,
    states: Tensor,
    mask_BT: Tensor | None,
    added_conditions: dict[str, Tensor] | None,
) -> Tensor:
    """What a UNet or transformer predicts, [B, C, h, w], its variance left out."""
    states = states.to(denoiser.dtype)
    kind = type(denoiser)
    if issubclass(kind, SD3Transformer2DModel):
        pooled = {name: value.to(denoiser.dtype) for name, value in (added_conditions or {}).items()}
        output = denoiser(noisy, states, timestep=timesteps, **pooled)
    elif issubclass(kind, PixArtTransformer2DModel):
        sizes = {"resolution": None, "aspect_ratio": None}
        output = denoiser(noisy, states, timesteps, sizes, encoder_attention_mask=mask_BT)
    else:
        output = denoiser(noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=added_conditions)
    prediction: Tensor = output.sample[:, : noisy.shape[1]]
    return prediction


def denoising_loss(
    denoiser: Any,
    scheduler: Any,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    states: Tensor,
    *,
    min_snr_gamma: float = 0.0,
    mask_BT: Tensor | None = None,
    added_conditions: dict[str, Tensor] | None = None,
) -> Tensor:
    """Mean squared error of the frozen denoiser's prediction, conditioned on ``states`` [B, T, D]; a scalar.

    ``latents`` and ``noise`` [B, C, h, w], ``timesteps`` [B]. The denoiser's weights need no gradient, but the graph
    runs through it to ``states``: this is how it teaches the adapter. ``min_snr_gamma`` 0 weighs all timesteps alike;
    ``mask_BT`` [B, T] is nonzero where a token is real, which PixArt asks for; ``added_conditions`` is what the
    denoiser takes beside.
    """
    noisy, target = noised(scheduler, latents, noise, timesteps)
    prediction = predict(denoiser, noisy.to(denoiser.dtype), timesteps, states, mask_BT, added_conditions)
    if not min_snr_gamma:
        return F.mse_loss(prediction.float(), target.float())
    error_B = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    return (error_B * min_snr_weights(scheduler, timesteps, min_snr_gamma)).mean()
