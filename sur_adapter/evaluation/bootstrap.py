"""Bootstrap: means with 95% intervals over runs and prompts."""

from __future__ import annotations

import numpy as np

from sur_adapter.evaluation.config import Interval

DRAWS = 2000


def bootstrap(*groups: np.ndarray, seed: int = 0) -> Interval:
    """The mean of scores [runs, prompts], or the mean of such means over several groups of prompts with the same runs.

    A bootstrap of both axes: runs and prompts are resampled with replacement, so that the interval covers another
    seed as well as other prompts. A single run is not resampled. Pass differences for a paired interval.
    """
    rng = np.random.default_rng(seed)
    runs = len(groups[0])
    rows = rng.multinomial(runs, np.full(runs, 1 / runs), DRAWS) / runs  # the same runs in every group
    means = np.zeros(DRAWS)
    for scores in groups:
        prompts = scores.shape[1]
        columns = rng.multinomial(prompts, np.full(prompts, 1 / prompts), DRAWS) / prompts
        means += np.einsum("dr,rp,dp->d", rows, scores, columns, optimize=True) / len(groups)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean=float(np.mean([scores.mean() for scores in groups])), low=float(low), high=float(high))
