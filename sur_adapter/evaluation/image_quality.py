"""No-reference image quality metrics by pyiqa: BRISQUE, CLIP-IQA, MUSIQ and the others it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surd.schemas.errors import SurdError

ImageMetric = Callable[[np.ndarray], np.ndarray]


def load_image_metric(metric: str) -> ImageMetric:
    """The metric: scores [S, P] of picture files [S, P]. SurdError if pyiqa, the metric or its weights are missing:
    better before the pictures are rendered than after."""
    try:
        import pyiqa
    except ImportError as error:
        raise SurdError(f"--quality: {metric!r} needs pyiqa, which is not installed; pip install pyiqa") from error
    if metric not in pyiqa.list_models(metric_mode="NR"):
        raise SurdError(f"--quality: {metric!r} is not a no-reference metric of pyiqa; try brisque, clipiqa or musiq")
    try:
        measure = pyiqa.create_metric(metric)
    except Exception as error:  # it downloads weights by more than one library
        raise SurdError(
            f"--quality: the weights of {metric!r} are missing and cannot be downloaded ({error}); "
            "load them once on a machine with a network, or drop the flag"
        ) from error
    return lambda files_SP: np.array([float(measure(str(file))) for file in files_SP.flat]).reshape(files_SP.shape)
