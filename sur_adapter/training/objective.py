"""Training objectives: our weighted losses of a batch, those of the authors' code, or that of a translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sur_adapter.adapter import SURAdapterOutput
from sur_adapter.base_model import Pipeline, backbone
from sur_adapter.training.conditions import Conditions, Sentences
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.losses import denoising_loss, draw_noise, draw_timesteps, kl, training_scheduler

Losses = dict[str, Tensor]


def make_objective(pipe: Pipeline, config: TrainConfig) -> Callable[[nn.Module, Any], Losses]:
    """The objective that ``config`` names, of an adapter and ``Conditioner.inputs``; ``pipe`` gives the frozen UNet and
    its noise schedule."""
    if config.translates:
        return translation_loss
    return (AuthorsObjective if config.objective == "authors" else Objective)(pipe, config)


def translation_loss(adapter: nn.Module, sentences: Sentences) -> Losses:
    """Cross-entropy of every token of the prompts, its end included, given those before it."""
    logits_BTV = adapter(sentences.llm_BLW, sentences.llm_mask_BL, prompt_BT=sentences.prompt_BT[:, :-1]).translation
    loss_BT = F.cross_entropy(logits_BTV.float().transpose(1, 2), sentences.prompt_BT[:, 1:], reduction="none")
    real_BT = sentences.prompt_mask_BT[:, 1:]
    loss = (loss_BT * real_BT).sum() / real_BT.sum()
    return {"translation": loss, "loss": loss}


class Objective:
    """The three losses of one batch; those whose weight is zero are not computed."""

    def __init__(self, pipe: Pipeline, config: TrainConfig) -> None:
        self.denoiser = backbone(pipe)
        self.scheduler = training_scheduler(pipe, config.min_snr_gamma)
        self.config = config
        weights = {"denoise": config.w_denoise, "llm": config.w_llm * config.distils, "prompt": config.w_prompt}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}

    def __call__(self, adapter: nn.Module, conditions: Conditions) -> Losses:
        """Scalars by name, unweighted, and their weighted sum as "loss".

        A dropped caption goes through the adapter as the empty prompt and has no part in the text losses: the
        adapter learns only from the denoiser to leave it unchanged.
        """
        device, count = conditions.simple_BTD.device, len(conditions.simple_BTD)
        timesteps_B = draw_timesteps(self.scheduler, count, device)
        adapted = adapter(
            conditions.simple_BTD, conditions.mask_BT, conditions.llm, conditions.llm_mask_BL, timesteps_B
        )
        parts: dict[str, Callable[[], Tensor]] = {
            "denoise": lambda: self.denoise(conditions, adapted.states, timesteps_B),
            "llm": lambda: self.distil(conditions, adapted),
            "prompt": lambda: self.align(conditions, adapted),
        }
        losses = {name: parts[name]() for name in self.weights}
        losses["loss"] = torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()
        return losses

    def denoise(self, conditions: Conditions, states_BTD: Tensor, timesteps_B: Tensor) -> Tensor:
        """The frozen UNet's loss on the adapted states at these timesteps, at noise drawn here."""
        latents = conditions.latents
        assert latents is not None, "the denoising loss needs latents"
        return denoising_loss(
            self.denoiser,
            self.scheduler,
            latents,
            draw_noise(latents, self.config.noise_offset),
            timesteps_B,
            states_BTD,
            min_snr_gamma=self.config.min_snr_gamma,
            mask_BT=conditions.mask_BT,
            added_conditions=conditions.added,
        )

    def distil(self, conditions: Conditions, adapted: SURAdapterOutput) -> Tensor:
        """KL of every real token's encoder state to the projected LLM state.

        Padding is left out: at 77 tokens it would outvote the words of a short sentence six to one.
        """
        assert adapted.llm_target is not None
        taught_B = conditions.kept_B if conditions.distilled_B is None else conditions.kept_B & conditions.distilled_B
        return kl(
            adapted.llm_target, adapted.encoder_states, mask_BT=conditions.mask_BT * taught_B[:, None], **self._kl()
        )

    def align(self, conditions: Conditions, adapted: SURAdapterOutput) -> Tensor:
        """KL of the adapted states to the complex prompt's, token by token, where the caption was kept.

        Padding counts here: Stable Diffusion's text encoder is causal, so padding holds its summary of the whole
        prompt, and the UNet attends to all T positions alike.
        """
        assert conditions.complex_BTD is not None
        mask_BT = conditions.kept_B[:, None].expand(adapted.states.shape[:2])
        return kl(conditions.complex_BTD, adapted.states, mask_BT=mask_BT, **self._kl())

    def _kl(self) -> dict[str, Any]:
        return {"direction": self.config.kl_direction, "temperature": self.config.kl_temperature}


class AuthorsObjective(Objective):
    """What the authors' code computes: the denoising loss gives the adapter no gradient (their states are re-made as
    a new tensor), both text losses are summed over all tokens, padding too, and divided by the batch size only."""

    def denoise(self, conditions: Conditions, states_BTD: Tensor, timesteps_B: Tensor) -> Tensor:
        with torch.no_grad():
            return super().denoise(conditions, states_BTD.detach(), timesteps_B)

    def distil(self, conditions: Conditions, adapted: SURAdapterOutput) -> Tensor:
        assert adapted.llm_target is not None
        mask_BT = None
        if conditions.distilled_B is not None:
            mask_BT = conditions.distilled_B[:, None].expand(adapted.encoder_states.shape[:2])
        return kl(adapted.llm_target, adapted.encoder_states, mask_BT=mask_BT, reduction="batch", **self._kl())

    def align(self, conditions: Conditions, adapted: SURAdapterOutput) -> Tensor:
        assert conditions.complex_BTD is not None
        return kl(conditions.complex_BTD, adapted.states, reduction="batch", **self._kl())
