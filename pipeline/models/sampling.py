"""Sampling of tokens that depends on the row's own seed and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, TopPLogitsWarper


class SeededSampling(LogitsProcessor):
    """Nucleus sampling with one random generator per row.

    torch's own generator is shared by all threads of a process and by all rows of a batch: a sample drawn from it
    depends on what else is running. Here the largest of log-probability plus Gumbel noise is taken, which is a draw
    from the distribution (Maddison et al. 2014), and left as the only token with any probability, so that whatever
    ``generate`` draws afterwards has no effect.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature
        self._nucleus = TopPLogitsWarper(top_p)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        scores = self._nucleus(input_ids, scores / self._temperature)
        exponential = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in self._generators]
        )
        drawn = (scores - exponential.log().to(scores.device)).argmax(dim=1, keepdim=True)
        return torch.full_like(scores, float("-inf")).scatter(1, drawn, 0.0)  # type: ignore[return-value]


def row_seed(*parts: object) -> int:
    """A seed for one row from what it is about, e.g. the config's seed and the row's content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update((part if isinstance(part, bytes) else repr(part).encode()) + b"\0")
    return int.from_bytes(digest.digest()[:8], "big") >> 1  # torch seeds are signed
