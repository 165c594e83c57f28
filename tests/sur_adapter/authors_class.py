"""The network of the authors' code, written anew from its description: the thing that ours must equal.

Attention runs across the batch (``batch_first`` is left out), ``encoder_layer`` and ``value_layer`` take no part, and
``fc`` has a zero weight but a random bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_layer, self.key_layer, self.value_layer = (nn.Linear(width, width) for _ in range(3))
        self.output_layer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        scores = torch.matmul(self.query_layer(h), self.key_layer(x).transpose(-1, -2)) / x.shape[-1] ** 0.5
        u = torch.matmul(torch.softmax(scores, dim=-1), x) + x
        return u + self.output_layer(u)


class AuthorsClass(nn.Module):
    def __init__(self, width: int, depth: int = 2, strength: float = 0.1) -> None:
        super().__init__()
        self.encoder_layer = nn.TransformerEncoderLayer(d_model=width, nhead=8)
        self.transformer_encoder = nn.TransformerEncoder(self.encoder_layer, num_layers=depth)
        self.attention = Attention(width)
        self.fc = nn.Linear(width, width)
        nn.init.zeros_(self.fc.weight)
        self.strength = strength

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.transformer_encoder(x)
        o = self.fc(self.attention(h, x))
        return self.strength * o + (1 - self.strength) * x, h, o


def divergence(target: Tensor, student: Tensor) -> Tensor:
    """Their loss: summed over tokens and dimensions, divided by the batch."""
    ours, theirs = log_softmax(student, dim=-1), log_softmax(target, dim=-1)
    return (ours.exp() * (ours - theirs)).sum() / len(student)
