"""Turns a decoded picture into the smaller JPEG that is kept in place of the original bytes, where the config asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Recoded:
    """A picture as a JPEG."""

    data: bytes
    width: int
    height: int

    def columns(self) -> dict[str, Any]:
        """What a row says of the bytes that are kept."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"sha256": digest, "ext": "jpg", "size": len(self.data), "width": self.width, "height": self.height}


def fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size of a picture whose longer side is at most ``longest``: never larger than it was."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def recode(picture: Image.Image, longest: int, quality: int) -> Recoded:
    """An RGB picture as a JPEG whose longer side is at most ``longest``.

    By simplejpeg: the same libjpeg-turbo as Pillow's and OpenCV's, with less copying around it (0.72 ms for 512 x 384,
    Pillow 0.77 ms). Chroma is halved both ways, as these two do.
    """
    size = fitted(picture.width, picture.height, longest)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.HAMMING)
    data = simplejpeg.encode_jpeg(np.asarray(picture), quality, "RGB", "420", fastdct=False)
    return Recoded(data=data, width=size[0], height=size[1])
