"""Kernel inception distance between real and generated pictures (arXiv 1801.01401).

The paper uses features of Inception-v3. Ours are the judge's, so the numbers compare only with each other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sur_adapter.evaluation.config import Interval

BLOCKS = 20


def paired_kernel(real_PD: Tensor, fake_SPD: Tensor) -> Tensor:
    """``h`` [P, P], whose mean off the diagonal is the squared MMD with the kernel ``(x.y/D + 1)^3``.

    ``real`` is one picture of each of P prompts, ``fake`` S of each. A prompt is never compared with itself: its
    pictures look alike because of the prompt, which would count as similarity of the distributions. Features are scaled
    by one number, because networks differ in scale; not centred, because a mean of the same sample is a bias.
    """
    scale = real_PD.double().square().mean().sqrt()
    real, fake = real_PD.double() / scale, fake_SPD.double() / scale

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    cross = torch.stack([kernel(real, one) for one in fake]).mean(0)
    among = torch.stack([kernel(one, other) for one in fake for other in fake]).mean(0)
    return kernel(real, real) + among - cross - cross.T


def kid(h_PP: Tensor) -> Interval:
    """The mean of ``h`` off its diagonal, and its 95% interval by a delete-a-block jackknife over the prompts.

    A bootstrap would draw a prompt twice and so compare it with itself. On a difference of two ``h`` the interval is
    paired.
    """
    prompts = len(h_PP)
    blocks = min(BLOCKS, prompts // 2)
    rows = torch.arange(prompts)
    without = np.array([_off_diagonal(h_PP, rows[rows % blocks != block]) for block in range(blocks)])
    value = _off_diagonal(h_PP, rows)
    error = float(np.sqrt((blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()))
    return Interval(mean=value, low=value - 1.96 * error, high=value + 1.96 * error)


def _off_diagonal(h_PP: Tensor, kept: Tensor) -> float:
    part = h_PP[kept][:, kept]
    return float((part.sum() - part.diagonal().sum()) / (len(kept) * (len(kept) - 1)))
