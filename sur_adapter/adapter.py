"""Turns a frozen text encoder's states of a simple prompt into states that carry more of what the prompt means.

The network is the one of arXiv 2305.05189 (section "SUR-adapter"), with three deliberate differences from its authors'
code: attention runs over the tokens of one prompt, padding is masked, and an untrained adapter is exactly the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn


@dataclass
class SURAdapterOutput(BaseOutput):
    """``states`` [B, T, width] condition the UNet; ``encoder_states`` [B, T, width] meet the LLM;
    ``llm_target`` [B, 1, width] is the projected LLM vector, None where no vector was given."""

    states: Tensor
    encoder_states: Tensor
    llm_target: Tensor | None = None


class AdapterAttention(nn.Module):
    """One attention head in which the encoder's states ask and the prompt's own states answer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_layer = nn.Linear(width, width)
        self.key_layer = nn.Linear(width, width)
        self.output_layer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x_BTD: Tensor, h_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        scores_BTT = self.query_layer(h_BTD) @ self.key_layer(x_BTD).transpose(1, 2) / x_BTD.shape[-1] ** 0.5
        if padding_BT is not None:
            scores_BTT = scores_BTT.masked_fill(padding_BT[:, None, :], float("-inf"))
        u_BTD = scores_BTT.softmax(dim=-1) @ x_BTD + x_BTD
        return u_BTD + self.output_layer(u_BTD)


class SURAdapter(ModelMixin, ConfigMixin):  # type: ignore[misc]  # both of diffusers, which disagree on a type
    """The adapter: ``h = encoder(x)``, ``r = attention(h, x)``, ``o = x + fc(r)``, ``y = eta*o + (1 - eta)*x``.

    ``fc`` starts at zero in weight and bias and ``o`` is residual in ``x``. So an untrained adapter returns its input
    bit for bit, whatever ``eta`` is, and training starts from the base model's own quality. (In the authors' code
    ``o = fc(r)`` with a random bias: their start mixes noise into every prompt.)

    Submodules bear the authors' key names. Saved with ``save_pretrained`` as safetensors and a config that holds
    everything needed to use it, strength included.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 768,
        llm_width: int | None = None,
        depth: int = 2,
        heads: int = 8,
        feed_forward: int = 2048,
        dropout: float = 0.1,
        eta: float = 0.1,
        attention_axis: Literal["token"] = "token",
        base_model: str | None = None,
        llm_column: str | None = None,
        objective: str | None = None,
    ) -> None:
        """``width`` is the text encoder's, ``llm_width`` the LLM's (None: no LLM projection).

        ``base_model``, ``llm_column`` and ``objective`` record what the adapter was trained on; they change nothing.
        """
        super().__init__()
        if attention_axis != "token":
            raise ValueError(f"attention_axis must be 'token', not {attention_axis!r}")
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, activation="relu", batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.attention = AdapterAttention(width)
        self.fc = nn.Linear(width, width)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.llm_projection = None
        if llm_width is not None:
            self.llm_projection = nn.Linear(llm_width, width, bias=False)
            self.register_buffer("llm_mean", torch.zeros(llm_width))
            self.register_buffer("llm_std", torch.ones(llm_width))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None, llm_BW: Tensor | None = None) -> SURAdapterOutput:
        """Adapt text states.

        ``x_BTD`` [B, T, width]: the text encoder's states. ``mask_BT`` [B, T]: nonzero where a token is real, zero
        where it is padding; padding is adapted too but nobody attends to it. ``llm_BW`` [B, llm_width]: LLM vectors,
        only when training (projected here so that DDP sees the projection's gradient).
        """
        padding_BT = None if mask_BT is None else ~mask_BT.bool()
        h_BTD = self.transformer_encoder(x_BTD, src_key_padding_mask=padding_BT)
        o_BTD = x_BTD + self.fc(self.attention(x_BTD, h_BTD, padding_BT))
        # lerp, not eta*o + (1-eta)*x: the same number, but exactly x where o equals x.
        y_BTD = torch.lerp(x_BTD, o_BTD, self.config["eta"])
        target = None if llm_BW is None else self.project_llm(llm_BW)[:, None, :]
        return SURAdapterOutput(states=y_BTD, encoder_states=h_BTD, llm_target=target)

    def project_llm(self, llm_BW: Tensor) -> Tensor:
        """[B, llm_width] -> [B, width]: standardised by ``llm_mean`` and ``llm_std``, projected, normalised.

        Projection and encoder are both learned, so they could agree on one constant and distil nothing. Targets of
        zero mean over the data set, no bias and a fixed scale leave no such constant. (Raw pooled LLM states are also
        nearly parallel for all prompts, with a few coordinates hundreds of times larger than the rest.)
        """
        assert self.llm_projection is not None, "this adapter was made without llm_width"
        projected = self.llm_projection((llm_BW - self.llm_mean) / self.llm_std)
        return F.layer_norm(projected, projected.shape[-1:])
