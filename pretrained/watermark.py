"""LAION's watermark detector: the probability that a picture bears a watermark, as LAION-5B's metadata has it.

An EfficientNet-B3 of timm with a head of three layers; the weights are ``watermark_model_v1.pt`` of
LAION-5B-WatermarkDetection (MIT), plain tensors that are read as such. It knows the marks of stock photograph agencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from surd.pretrained.score_weights import read_weights
from surd.schemas.errors import SurdError, one_line

FIELD = "score.watermark"
_SIDE = 256
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


@dataclass(frozen=True)
class WatermarkDetector:
    """``sha256``: of its weights."""

    network: nn.Module
    sha256: str

    @torch.no_grad()
    def probability(self, picture: Image.Image) -> float:
        """Of a watermark, 0 to 1. A picture goes in alone: so its figure does not depend on others."""
        resized = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized, np.float32) / 255 - _MEAN) / _DEVIATION
        batch = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        return float(self.network(batch).double().softmax(-1)[0, 0])  # watermark, then clear


def new_watermark_network() -> nn.Module:
    """The network with random weights."""
    import timm

    network: nn.Module = timm.create_model("efficientnet_b3", pretrained=False, num_classes=2)
    network.classifier = nn.Sequential(
        nn.Linear(1536, 625), nn.ReLU(), nn.Dropout(0.3), nn.Linear(625, 256), nn.ReLU(), nn.Linear(256, 2)
    )
    return network.eval()


def load_watermark_detector(name: str) -> WatermarkDetector:
    """From a .pt, .pth or .safetensors. Raises SurdError where the file holds other weights."""
    tensors, sha256 = read_weights(FIELD, name)
    network = new_watermark_network()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise SurdError(
            f"{FIELD} is {name!r}: the file holds other tensors than LAION's watermark detector has"
            f" ({one_line(error, 120)}); give watermark_model_v1.pt"
        ) from None
    return WatermarkDetector(network.eval(), sha256)
