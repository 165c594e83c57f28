"""Image quality measures that do not depend on what the picture shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

Measure = Callable[[Image.Image], float]
_SIDE = 512


def open_qualities(names: Sequence[str]) -> dict[str, Measure]:
    """The measure of each named column."""
    return {name: _MEASURES[name] for name in dict.fromkeys(names)}


def sharpness(picture: Image.Image) -> float:
    """Variance of the Laplacian of the luminance (Pech-Pacheco et al. 2000): low if a picture is out of focus.

    Pictures are shrunk to 512 pixels on the longer side first, so that the same picture scores alike at any size.
    """
    grey = picture.convert("L")
    if max(grey.size) > _SIDE:
        grey.thumbnail((_SIDE, _SIDE))
    light = np.pad(np.asarray(grey, np.float32), 1, mode="edge")
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float(np.var(around - 4 * light[1:-1, 1:-1], dtype=np.float64))


_MEASURES: dict[str, Measure] = {"sharpness": sharpness}
