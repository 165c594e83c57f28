"""The captioner: turns an image into sentences that say what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


class Captioner:
    """Any transformers image-to-text model that captions without a prompt (BLIP, GIT, BLIP-2 ...)."""

    def __init__(self, ref: str, device: str) -> None:
        model: Any = AutoModelForImageTextToText.from_pretrained(ref, dtype=torch.float32, use_safetensors=True)
        self._model = model.to(device).eval()
        self._processor: Any = AutoProcessor.from_pretrained(ref)
        self._device = device

    @torch.inference_mode()
    def caption(
        self, images: Sequence[Image.Image], k: int, num_beams: int, max_new_tokens: int, seed: int
    ) -> list[list[str]]:
        """Up to ``k`` different captions per image: the first by beam search, the others sampled (top-p 0.9).

        The same images, in the same batch, with the same seed give the same captions.
        """
        inputs = self._processor(images=[image.convert("RGB") for image in images], return_tensors="pt").to(
            self._device
        )
        length = {"max_new_tokens": max_new_tokens}
        rounds = [self._model.generate(**inputs, num_beams=num_beams, do_sample=False, **length)]
        torch.manual_seed(seed)
        rounds += [self._model.generate(**inputs, do_sample=True, top_p=0.9, **length) for _ in range(k - 1)]
        texts = [self._processor.batch_decode(tokens, skip_special_tokens=True) for tokens in rounds]
        return [
            list(dict.fromkeys(text.strip() for text in of_image if text.strip()))
            for of_image in zip(*texts, strict=True)
        ]
