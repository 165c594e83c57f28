"""Turns pictures into no-reference quality scores, by pyiqa: BRISQUE, CLIP-IQA, MUSIQ and whatever else it knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surd.schemas.errors import SurdError

Rater = Callable[[np.ndarray], np.ndarray]


def load_rater(metric: str) -> Rater:
    """What gives the scores [S, P] of picture files [S, P]. SurdError when pyiqa, the metric or its weights are not
    there: better before the pictures are drawn than after."""
    try:
        import pyiqa
    except ImportError as error:
        raise SurdError(f"--quality: {metric!r} needs pyiqa, which is not installed; pip install pyiqa") from error
    if metric not in pyiqa.list_models(metric_mode="NR"):
        raise SurdError(f"--quality: pyiqa knows no no-reference metric {metric!r}; try brisque, clipiqa or musiq")
    try:
        measure = pyiqa.create_metric(metric)
    except Exception as error:  # it downloads weights by more than one library
        raise SurdError(
            f"--quality: the weights of {metric!r} are not at hand and cannot be downloaded ({error}); "
            "load them once on a machine with a network, or leave it out"
        ) from error
    return lambda files_SP: np.array([float(measure(str(file))) for file in files_SP.flat]).reshape(files_SP.shape)
