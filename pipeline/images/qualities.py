"""Measures of a picture that do not depend on what it shows, each a column that select can set a limit on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from surd.pretrained.brisque import brisque, load_brisque
from surd.pretrained.text_area import load_text_detector, text_area
from surd.pretrained.watermark import load_watermark_detector
from surd.schemas.config import ScoreConfig

_SIDE = 512


@dataclass(frozen=True)
class Quality:
    """A measured column. ``identity``: what its values depend on beside the picture."""

    measure: Callable[[Image.Image], float | None]
    identity: str | None = None


def open_qualities(settings: ScoreConfig) -> dict[str, Quality]:
    """Of each column that is asked for and that the picture alone decides; others (clip_iqa, aesthetic) are left out.

    Raises SurdError when the model of one is not there.
    """
    if "brisque" in settings.quality:
        load_brisque()  # once, before threads ask for it
    if "text-area" in settings.quality:
        load_text_detector()
    columns = dict.fromkeys(name.replace("-", "_") for name in settings.quality)
    found = {name: Quality(_MEASURES[name]) for name in columns if name in _MEASURES}
    if settings.watermark:
        detector = load_watermark_detector(settings.watermark)
        found["watermark"] = Quality(detector.probability, detector.sha256)
    return found


def sharpness(picture: Image.Image) -> float:
    """Variance of the Laplacian of the luminance (Pech-Pacheco et al. 2000): low if a picture is out of focus."""
    light = np.pad(np.asarray(_shrunk(picture.convert("L")), np.float32), 1, mode="edge")
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float(np.var(around - 4 * light[1:-1, 1:-1], dtype=np.float64))


def colourfulness(picture: Image.Image) -> float:
    """After Hasler and Süsstrunk (2003): 0 of a grey picture, 15 of slight colours, 33 of moderate, 109 of extreme."""
    red, green, blue = np.moveaxis(np.asarray(_shrunk(picture.convert("RGB")), np.float64), -1, 0)
    against_green, against_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(against_green.std(), against_blue.std())
    return float(spread + 0.3 * np.hypot(against_green.mean(), against_blue.mean()))


def entropy(picture: Image.Image) -> float:
    """Shannon entropy of the luminance's histogram in bits, 0 (one grey) to 8: low of blank and of flat pictures."""
    return max(0.0, _shrunk(picture.convert("L")).entropy())


def _shrunk(picture: Image.Image) -> Image.Image:
    """At 512 pixels on the longer side at most, so that the same picture scores alike at any size."""
    if max(picture.size) > _SIDE:
        picture.thumbnail((_SIDE, _SIDE))
    return picture


_MEASURES: dict[str, Callable[[Image.Image], float | None]] = {
    "sharpness": sharpness,
    "brisque": brisque,
    "colourfulness": colourfulness,
    "entropy": entropy,
    "text_area": text_area,
}
