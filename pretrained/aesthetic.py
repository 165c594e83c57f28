"""LAION's aesthetic score: how much people like a picture on average, 1 to 10, from its CLIP ViT-L/14 embedding.

The weights are those of LAION's aesthetic predictor (one linear layer) or of the improved aesthetic predictor (five,
with no activation between them), e.g. ``sac+logos+ava1-l14-linearMSE.pth``: plain tensors, that are read as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from surd.pretrained.score_weights import read_weights
from surd.schemas.errors import SurdError

FIELD = "score.aesthetic"
_WEIGHT = re.compile(r"(?:layers\.(\d+)\.)?weight")


@dataclass(frozen=True)
class AestheticHead:
    """Linear layers on a CLIP embedding: weights [out, in] and biases [out]."""

    layers: tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]

    @property
    def width(self) -> int:
        """Of the embeddings that it knows."""
        return int(self.layers[0][0].shape[1])

    def scores(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The score of each embedding [N, width] of unit length, to the last bit whatever is beside it."""
        return np.array([self._score(image.astype(np.float64)) for image in images])

    def _score(self, values: npt.NDArray[np.float64]) -> float:
        for weight, bias in self.layers:
            values = weight @ values + bias
        return float(values[0])


def load_aesthetic_head(name: str) -> AestheticHead:
    """From a .pth, .pt or .safetensors. Raises SurdError where the file is no such head."""
    tensors, _ = read_weights(FIELD, name)
    numbered = sorted((int(found[1] or 0), key) for key in tensors if (found := _WEIGHT.fullmatch(key)))
    try:
        layers = tuple(
            (tensors[key].double().numpy(), tensors[key.removesuffix("weight") + "bias"].double().numpy())
            for _, key in numbered
        )
        outputs = [weight.shape[0] for weight, _ in layers]
        inputs = [weight.shape[1] for weight, _ in layers]
        fits = outputs[-1] == 1 and outputs[:-1] == inputs[1:]
        fits &= [bias.shape for _, bias in layers] == [(count,) for count in outputs]
    except (KeyError, IndexError, TypeError):
        fits = False
    if not fits or len(tensors) != 2 * len(numbered):
        raise SurdError(
            f"{FIELD} is {name!r}: the file holds other tensors than an aesthetic head on CLIP embeddings has; give"
            " LAION's, for example sac+logos+ava1-l14-linearMSE.pth"
        )
    return AestheticHead(layers)


def check_width(head: AestheticHead, width: int, name: str, clip: str) -> None:
    """Raises SurdError where embeddings are of another width than the head knows."""
    if head.width != width:
        raise SurdError(
            f"{FIELD} is {name!r}, a head on embeddings of {head.width} numbers, and those of models.clip {clip!r} have"
            f" {width}; choose the CLIP it was trained on (LAION's: ViT-L-14/openai)"
        )
