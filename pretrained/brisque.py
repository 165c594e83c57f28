"""BRISQUE (Mittal, Moorthy and Bovik 2012): how natural a picture's local contrast is. Lower is better.

The model is the one that the package ``brisque`` ships, a support vector regression on the LIVE database. Only its two
files are read, so the package needs none of what it depends on (``pip install --no-deps brisque``): its own code wants
OpenCV, scikit-image and a compiler for libsvm, unpickles the ranges, and version 0.2.0 raises TypeError with numpy 2.4.
The features below are those the model was fitted to, step by step; on a 768 x 512 picture (kodim05 of the
Kodak set) they give the 4.9542 that the model's authors publish.

It knows photographs: sharp drawings on flat grounds score beyond 100, and better when they are blurred.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate1d
from scipy.special import gamma

from surd.pretrained.packaged_model import read_packaged

Floats = npt.NDArray[np.float64]
PACKAGE = "brisque"
_REQUIREMENT = "brisque==0.2.0"
_FEATURES = 36  # 18 at each of two sizes
#: The files of the model and their sha256: with others the same picture would have another score.
_SVM = ("models/svm.txt", "19526fb799c4c7992ccc109fcfecddb25976ba024b194cd3ee275d27e8909c8d")
_RANGES = ("models/normalize.pickle", "a91753fe7088efe0b40e4d091315201fdb067966fc6785cf465e1eab060acda9")
_LUMINANCE = (0.2125, 0.7154, 0.0721)
_WINDOW = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * (7 / 6) ** 2))
_HALVING = (-0.09375, 0.59375, 0.59375, -0.09375)  # bicubic, a = -0.75, at every second midpoint: no antialiasing
_SHAPES = np.arange(0.05, 12, 0.001)  # of generalised Gaussians: 2 is the normal distribution, 1 Laplace's
_LEAST = 16  # pixels on the shorter side


def brisque(picture: Image.Image) -> float | None:
    """The score of a picture at the size it has: about 0 of a good photograph to 100 of a ruined one, sometimes beyond.

    None if it cannot be measured: the picture has fewer than 16 pixels on a side, or no contrast of both signs (one
    colour, a checkerboard).
    Raises SurdError when the model is not installed.
    """
    model = load_brisque()
    if min(picture.size) < _LEAST:
        return None
    light = np.asarray(picture.convert("RGB"), np.float64) @ _LUMINANCE
    if np.ptp(light) < 1e-6:
        return None
    features = np.array([*_features(light), *_features(_half(light))])
    return model.score(features) if np.isfinite(features).all() else None


@dataclass(frozen=True)
class BrisqueModel:
    """A support vector regression with a Gaussian kernel over scaled features."""

    lowest: Floats
    highest: Floats
    vectors: Floats
    weights: Floats
    width: float
    bias: float

    def score(self, features: Floats) -> float:
        """The score of features [36]."""
        scaled = 2 * (features - self.lowest) / (self.highest - self.lowest) - 1
        return float(self.weights @ np.exp(-self.width * ((self.vectors - scaled) ** 2).sum(1)) - self.bias)


@cache
def load_brisque() -> BrisqueModel:
    """The model of the installed package. Raises SurdError when it is missing or another."""
    svm, ranges = (read_packaged("quality brisque", PACKAGE, _REQUIREMENT, *file) for file in (_SVM, _RANGES))
    head, _, rows = svm.decode("ascii").partition("\nSV\n")
    settings = dict(line.split(maxsplit=1) for line in head.splitlines())
    # The ranges are a pickle of two lists of numbers. It is read as a list of operations, of which none is carried out.
    numbers = [float(value or 0) for operation, value, _ in pickletools.genops(ranges) if operation.name == "BINFLOAT"]
    weights, vectors = [], []
    for row in rows.splitlines():
        weight, *pairs = row.split()
        vector = np.zeros(_FEATURES)
        for pair in pairs:
            place, value = pair.split(":")
            vector[int(place) - 1] = float(value)
        weights.append(float(weight))
        vectors.append(vector)
    return BrisqueModel(
        lowest=np.array(numbers[:_FEATURES]),
        highest=np.array(numbers[_FEATURES:]),
        vectors=np.array(vectors),
        weights=np.array(weights),
        width=float(settings["gamma"]),
        bias=float(settings["rho"]),
    )


def _features(light: Floats) -> list[float]:
    """18 features of a luminance [H, W]: shape and variance of the contrast-normalised picture, and shape, mean and
    variances on either side of its products with four neighbours."""
    mean = _blurred(light)
    deviation = np.sqrt(np.abs(_blurred(light * light) - mean * mean))
    normal = (light - mean) / (deviation + 1)
    shape, _, left, right = _fit(normal)
    features = [shape, (left + right) / 2]
    for product in (
        normal[:, :-1] * normal[:, 1:],
        normal[:-1] * normal[1:],
        normal[:-1, :-1] * normal[1:, 1:],
        normal[1:, :-1] * normal[:-1, 1:],
    ):
        features += _fit(product)
    return features


def _fit(values: Floats) -> tuple[float, float, float, float]:
    """An asymmetric generalised Gaussian by its moments: shape, mean, variance of the left and of the right side."""
    negative = values < 0
    left, right = (float(np.mean(side * side)) if side.size else 0.0 for side in (values[negative], values[~negative]))
    if not left or not right:
        return (float("nan"),) * 4
    skew = np.sqrt(left / right)
    flatness = np.mean(np.abs(values)) ** 2 / np.mean(values * values)
    wanted = flatness * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(np.interp(wanted, _ratios(), _SHAPES))
    spread = gamma(2 / shape) / np.sqrt(gamma(1 / shape) * gamma(3 / shape))
    return shape, float((np.sqrt(right) - np.sqrt(left)) * spread), left, right


@cache
def _ratios() -> Floats:
    """What the moments of each of ``_SHAPES`` are; rising, so that a shape is found by interpolation."""
    ratios: Floats = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
    return ratios


def _blurred(light: Floats) -> Floats:
    window = _WINDOW / _WINDOW.sum()
    return np.asarray(correlate1d(correlate1d(light, window, 0, mode="constant"), window, 1, mode="constant"))


def _half(light: Floats) -> Floats:
    for axis in (0, 1):
        count = round(light.shape[axis] / 2)
        padded = np.pad(light, [(1, 2) if axis == each else (0, 0) for each in (0, 1)], mode="edge")
        taps = [padded.take(2 * np.arange(count) + place, axis=axis) for place in range(4)]
        light = sum((weight * tap for weight, tap in zip(_HALVING, taps, strict=True)), np.zeros_like(taps[0]))
    return light
