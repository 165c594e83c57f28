"""Text states of diffusers pipelines: what the denoiser attends to, as the pipeline itself makes it of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surd.pretrained.diffusion import kind_of

#: Tokens that T5 reads: the numbers the pipelines have as their defaults.
PIXART_TOKENS, SD3_T5_TOKENS = 300, 256


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """``states`` [B, T, D] that the denoiser attends to, ``mask`` [B, T]: 1 where a token is real, and, only for a
    model with several text encoders, ``pooled`` [B, P]."""

    states: Tensor
    mask: Tensor
    pooled: Tensor | None = None


@torch.no_grad()
def text_states(pipe: Any, texts: Sequence[str]) -> TextStates:
    """States, mask and pooled text of prompts, on the pipeline's device.

    Of two CLIPs side by side along the width; of Stable Diffusion 3 those of the CLIPs, then those of T5, along the
    tokens. PixArt lowers the case of a prompt, and nothing else is cleaned.
    """
    texts, kind = list(texts), kind_of(pipe).pipeline
    if kind == "PixArtSigmaPipeline":
        states, mask, _, _ = pipe.encode_prompt(texts, False, device=pipe.device, max_sequence_length=PIXART_TOKENS)
        return TextStates(states=states, mask=mask)
    if kind == "StableDiffusion3Pipeline":
        states, _, pooled, _ = pipe.encode_prompt(
            texts, None, None, device=pipe.device, do_classifier_free_guidance=False, max_sequence_length=SD3_T5_TOKENS
        )
        return TextStates(states=states, mask=joint_mask(pipe, texts, texts, states.shape[1]), pooled=pooled)
    tokens = _tokens(pipe.tokenizer, texts, pipe.tokenizer.model_max_length).to(pipe.device)
    if kind == "StableDiffusionXLPipeline":
        states, _, pooled, _ = pipe.encode_prompt(texts, device=pipe.device, do_classifier_free_guidance=False)
        return TextStates(states=states, mask=tokens.attention_mask, pooled=pooled)
    uses_mask = getattr(pipe.text_encoder.config, "use_attention_mask", False)
    states = pipe.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask if uses_mask else None)[0]
    return TextStates(states=states, mask=tokens.attention_mask)


def joint_mask(pipe: Any, texts: list[str], t5_texts: list[str], length: int) -> Tensor:
    """Mask [B, length] of Stable Diffusion 3's tokens: those of CLIP, then those of T5; 1 where one is real."""
    clip = _tokens(pipe.tokenizer, texts, pipe.tokenizer_max_length).attention_mask
    t5 = _tokens(pipe.tokenizer_3, t5_texts, length - clip.shape[1]).attention_mask
    return torch.cat([clip, t5], dim=1).to(pipe.device)


def _tokens(tokenizer: Any, texts: list[str], length: int) -> Any:
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
