"""CLIP: turns images and texts into unit vectors whose dot product says how well they match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image

FloatArray = npt.NDArray[np.float32]


class Clip:
    """Any open_clip model: a folder with ``open_clip_config.json``, ``name/pretrained-tag``, or ``hf-hub:org/name``."""

    def __init__(self, ref: str, device: str) -> None:
        if Path(ref).is_dir():
            name, pretrained = f"local-dir:{ref}", None
        elif ref.startswith("hf-hub:") or "/" not in ref:
            name, pretrained = ref, None
        else:
            name, pretrained = ref.split("/", 1)
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
        self._model, self._preprocess, self._device = model.eval(), preprocess, device
        self._tokenize = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Images as unit vectors, [len(images), width] float32."""
        pixels = torch.stack([self._preprocess(image.convert("RGB")) for image in images]).to(self._device)
        return _unit(self._model.encode_image(pixels))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> FloatArray:
        """Texts as unit vectors, [len(texts), width] float32. Text beyond the context (77 tokens) is not seen."""
        if not texts:
            return np.zeros((0, 0), np.float32)
        batches = [texts[at : at + batch_size] for at in range(0, len(texts), batch_size)]
        encoded = [self._model.encode_text(self._tokenize(list(batch)).to(self._device)) for batch in batches]
        return _unit(torch.cat(encoded))


def _unit(vectors: torch.Tensor) -> FloatArray:
    unit: FloatArray = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit
