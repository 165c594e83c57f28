"""Turns the adapter's outputs into the losses of arXiv 2305.05189: denoising, LLM distillation, prompt alignment."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from schemas.errors import SurdError

Reduction = Literal["mean", "batch"]


def kl(
    target: Tensor,
    student: Tensor,
    *,
    temperature: float = 1.0,
    mask_BT: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """D(target, student): the divergence of softmax(student) from softmax(target) over the last dimension, a scalar.

    D = T^2 * sum over dim of softmax(student/T) * (log softmax(student/T) - log softmax(target/T)), per token.
    ``student`` [B, T, D]; ``target`` [B, T, D] or [B, 1, D], then the same for every token. Tokens where ``mask_BT``
    is zero do not count.

    ``mean`` averages over the tokens that count, so the loss does not depend on how long prompts are or how far they
    are padded, and a weight means the same at 77 tokens as at 300. ``batch`` is the authors' reduction: summed over
    tokens, divided by the batch size only.
    """
    student_log = F.log_softmax(student / temperature, dim=-1)
    target_log = F.log_softmax(target / temperature, dim=-1)
    tokens_BT = (student_log.exp() * (student_log - target_log)).sum(dim=-1) * temperature**2
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


def denoising_loss(
    unet: Any, scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor, states: Tensor
) -> Tensor:
    """Mean squared error of the frozen UNet's prediction, conditioned on ``states`` [B, T, D]; a scalar.

    ``latents`` and ``noise`` [B, C, h, w], ``timesteps`` [B]. The UNet's weights need no gradient, but the graph runs
    through it to ``states``: this is how the denoiser teaches the adapter.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    prediction = unet(noisy, timesteps, encoder_hidden_states=states).sample
    return F.mse_loss(prediction.float(), denoising_target(scheduler, latents, noise, timesteps).float())


def llm_distillation_loss(llm_target: Tensor, encoder_states: Tensor, mask_BT: Tensor) -> Tensor:
    """D(P v, h): every real token's encoder state [B, T, D] meets the prompt's projected LLM vector [B, 1, D].

    Padding is left out: at 77 tokens it would outvote the words of a short sentence six to one.
    """
    return kl(llm_target, encoder_states, mask_BT=mask_BT)


def prompt_alignment_loss(complex_states: Tensor, states: Tensor, kept_B: Tensor) -> Tensor:
    """D(CLIP(complex), y), token by token, both [B, T, D], over the prompts where ``kept_B`` [B] is nonzero.

    Padding counts here: Stable Diffusion's text encoder is causal, so padding holds its summary of the whole prompt,
    and the UNet attends to all T positions alike.
    """
    return kl(complex_states, states, mask_BT=kept_B[:, None].expand(states.shape[:2]))
