"""Losses of arXiv 2305.05189: denoising, LLM distillation, prompt alignment."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
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


def denoising_loss(
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    states: Tensor,
    *,
    min_snr_gamma: float = 0.0,
    added_conditions: dict[str, Tensor] | None = None,
) -> Tensor:
    """Mean squared error of the frozen UNet's prediction, conditioned on ``states`` [B, T, D]; a scalar.

    ``latents`` and ``noise`` [B, C, h, w], ``timesteps`` [B]. The UNet's weights need no gradient, but the graph runs
    through it to ``states``: this is how the denoiser teaches the adapter. ``min_snr_gamma`` 0 weighs all timesteps
    alike; ``added_conditions`` is what SDXL's UNet takes beside the states.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps).to(unet.dtype)
    prediction = unet(
        noisy, timesteps, encoder_hidden_states=states.to(unet.dtype), added_cond_kwargs=added_conditions
    ).sample
    target = denoising_target(scheduler, latents, noise, timesteps)
    if not min_snr_gamma:
        return F.mse_loss(prediction.float(), target.float())
    error_B = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    return (error_B * min_snr_weights(scheduler, timesteps, min_snr_gamma)).mean()
