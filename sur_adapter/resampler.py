"""How an adapter attaches an LLM: its token states become a few tokens that know the timestep, which the text states
read.

The resampler follows ELLA's (arXiv 2403.05135): learned queries attend to the LLM's tokens, and the timestep of the
denoiser shifts and scales every layer, so that a picture's outline and its details may come from other words. Two
lesser connectors exist to be compared with it: ``resampler`` without the timestep, and ``mlp``, token by token.

Beside it runs one linear map of the LLM's mean state, added to every text state alike: a direct path, which is learned
in fewer steps than attention.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Connector = Literal["timestep", "resampler", "mlp"]
CONNECTORS: tuple[Connector, ...] = get_args(Connector)
HEAD_WIDTH = 64


def head_count(width: int) -> int:
    """Attention heads of about ``HEAD_WIDTH``, so many that they divide the width."""
    heads = max(1, width // HEAD_WIDTH)
    while width % heads:
        heads -= 1
    return heads


class TimestepNorm(nn.Module):
    """LayerNorm whose scale and shift follow from the timestep; before training, a plain one."""

    def __init__(self, width: int, modulated: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.modulation = nn.Linear(width, 2 * width) if modulated else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BLD: Tensor, time_BD: Tensor) -> Tensor:
        x_BLD = self.norm(x_BLD)
        if self.modulation is None:
            return x_BLD
        scale, shift = self.modulation(F.silu(time_BD))[:, None].chunk(2, dim=-1)
        return x_BLD * (1 + scale) + shift


class CrossAttention(nn.Module):
    """Multi-head attention of ``x`` to ``context``; rows that may see nothing get zeros."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, x_BQD: Tensor, context_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        query = self._split(self.query(x_BQD))
        key, value = (self._split(part) for part in self.key_value(context_BLD).chunk(2, dim=-1))
        seen = None if mask_BL is None else mask_BL.bool()[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ResamplerBlock(nn.Module):
    """Queries attend to the LLM's tokens and to one another, then a feed-forward layer; all residual."""

    def __init__(self, width: int, heads: int, modulated: bool) -> None:
        super().__init__()
        self.norm_queries, self.norm_feed = TimestepNorm(width, modulated), TimestepNorm(width, modulated)
        self.attention = CrossAttention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries_BQD: Tensor, llm_BLD: Tensor, mask_BL: Tensor, time_BD: Tensor) -> Tensor:
        normed = self.norm_queries(queries_BQD, time_BD)
        own = mask_BL.new_ones(normed.shape[:2])
        context, seen = torch.cat([llm_BLD, normed], dim=1), torch.cat([mask_BL, own], dim=1)
        queries_BQD = queries_BQD + self.attention(normed, context, seen)
        return queries_BQD + self.feed(self.norm_feed(queries_BQD, time_BD))


class LLMAttachment(nn.Module):
    """What text states read of an LLM, ``f(y, tokens, timestep)``, to be added to them; exactly zero before training.

    ``project`` is done once a prompt: the LLM's states [B, L, llm_width] become ``carried`` [B, 1 + L, width], first
    what follows from their mean, then the tokens, zeros where there is none. ``forward`` is done at every step of the
    denoiser. Of a prompt whose ``carried`` is all zeros, as the unconditional branch has it, it gives exactly zero.
    """

    def __init__(self, width: int, llm_width: int, connector: Connector, depth: int, queries: int) -> None:
        super().__init__()
        heads = head_count(width)
        self.connector, self.width = connector, width
        modulated = connector == "timestep"
        self.summary = nn.Sequential(nn.LayerNorm(llm_width), nn.Linear(llm_width, width))
        self.input = nn.Sequential(nn.LayerNorm(llm_width), nn.Linear(llm_width, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if modulated else None
        self.blocks = nn.ModuleList()
        self.mlp = None
        if connector == "mlp":
            self.mlp = nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.GELU())))
        else:
            self.queries = nn.Parameter(torch.randn(queries, width) / width**0.5)
            self.blocks.extend(ResamplerBlock(width, heads, modulated) for _ in range(depth))
        self.norm_tokens = TimestepNorm(width, modulated)
        self.norm_states, self.norm_read = nn.LayerNorm(width), TimestepNorm(width, modulated)
        self.read = CrossAttention(width, heads)
        self.join = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        for last in (self.join[-1], self.summary[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def project(self, llm_BLW: Tensor, mask_BL: Tensor) -> Tensor:
        """The LLM's states of L tokens [B, L, llm_width] as ``carried`` [B, 1 + L, width]; ``mask_BL``: nonzero where a
        token is real. Every real token is told its place, and none of them is all zeros."""
        mask_BL1 = mask_BL[..., None].to(llm_BLW.dtype)
        count_B1 = mask_BL1.sum(dim=1)
        mean_BW = (llm_BLW * mask_BL1).sum(dim=1) / count_B1.clamp(min=1)
        carried = self.input(llm_BLW)
        carried = F.layer_norm(carried, carried.shape[-1:]) + positions(llm_BLW.shape[1], self.width).to(carried)
        summary_BD = self.summary(mean_BW) * (count_B1 > 0)
        return torch.cat([summary_BD[:, None].to(carried), carried * mask_BL1.to(carried.dtype)], dim=1)

    def tokens(self, carried_BLD: Tensor, timesteps_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the text states read at these timesteps: tokens [B, Q, width] and their mask [B, Q]."""
        mask_BL = carried_BLD.detach().abs().amax(dim=-1) > 0
        time_BD = self._time(timesteps_B, carried_BLD)
        if self.mlp is not None:
            return self.norm_tokens(self.mlp(carried_BLD), time_BD), mask_BL
        queries = self.queries.to(carried_BLD.dtype).expand(len(carried_BLD), -1, -1)
        for block in self.blocks:
            queries = block(queries, carried_BLD, mask_BL, time_BD)
        return self.norm_tokens(queries, time_BD), mask_BL.new_ones(queries.shape[:2])

    def forward(self, y_BTD: Tensor, carried_BLD: Tensor, timesteps_B: Tensor) -> Tensor:
        """What text states ``y_BTD`` [B, T, width] read of the LLM at ``timesteps_B`` [B], or one for all."""
        summary_B1D, carried_BLD = carried_BLD[:, :1], carried_BLD[:, 1:]
        there_B = carried_BLD.detach().abs().amax(dim=(1, 2)) > 0
        tokens_BQD, mask_BQ = self.tokens(carried_BLD, timesteps_B)
        mask_BQ = mask_BQ | ~there_B[:, None]  # a softmax over nothing is not a number; what it gives is left out below
        # Padding states of one prompt are nearly alike: their places tell them apart.
        states_BTD = self.norm_states(y_BTD) + positions(y_BTD.shape[1], self.width).to(y_BTD)
        states_BTD = states_BTD + self.read(states_BTD, tokens_BQD, mask_BQ)
        read_BTD = self.join(self.norm_read(states_BTD, self._time(timesteps_B, carried_BLD)))
        return (read_BTD + summary_B1D).to(y_BTD.dtype).masked_fill(~there_B[:, None, None], 0)

    def _time(self, timesteps_B: Tensor, like: Tensor) -> Tensor:
        if self.time is None:
            return like.new_zeros(len(like), self.width)
        return self.time(sinusoids(timesteps_B.expand(len(like)), self.width).to(like.dtype))


def sinusoids(places_B: Tensor, width: int) -> Tensor:
    """Sines and cosines [B, width] of numbers, from wavelengths of 2 pi to 20,000 pi (arXiv 1706.03762); float32."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=places_B.device) / half)
    angles = places_B.float()[:, None] * rates
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width - 2 * half))


def positions(length: int, width: int) -> Tensor:
    """``sinusoids`` of the places 0 to ``length`` - 1, [length, width]."""
    return sinusoids(torch.arange(length), width)
