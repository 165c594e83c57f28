"""Image quality measures that do not depend on what the picture shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from surd.pretrained.brisque import brisque, load_brisque

Measure = Callable[[Image.Image], float | None]
_SIDE = 512


def open_qualities(names: Sequence[str]) -> dict[str, Measure]:
    """The measure of each named column that the picture alone decides; others (clip-iqa) are left out.

    Raises SurdError when the model of one is not installed.
    """
    if "brisque" in names:
        load_brisque()  # once, before threads ask for it
    return {name: _MEASURES[name] for name in dict.fromkeys(names) if name in _MEASURES}


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


_MEASURES: dict[str, Measure] = {"sharpness": sharpness, "brisque": brisque}
