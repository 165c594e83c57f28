"""The captioner: sentences that describe an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BlipForConditionalGeneration,
    LogitsProcessorList,
)

from surd.pipeline.models.pretrained import load_weights
from surd.pipeline.models.sampling import SeededSampling, row_seed

_TOP_P = 0.9
_SAMPLED = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "num_beams": 1}


class Captioner:
    """Any transformers image-to-text model that captions without a prompt (BLIP, GIT, BLIP-2 ...)."""

    def __init__(self, ref: str, device: str) -> None:
        model = load_weights(AutoModelForImageTextToText, ref, dtype=torch.float32)
        self._model = model.to(device).eval()
        self._processor: Any = AutoProcessor.from_pretrained(ref)
        self._device = device

    def caption(
        self, images: Sequence[Image.Image], k: int, num_beams: int, max_new_tokens: int, seed: int
    ) -> list[list[str]]:
        """Up to ``k`` different captions per image: the first by beam search, the others sampled (top-p 0.9).

        What is sampled for an image depends on its pixels and the seed, not on the batch or on what else is running.
        """
        pictures = [image.convert("RGB") for image in images]
        inputs = dict(self._processor(images=pictures, return_tensors="pt"))
        contents = [row_seed(picture.size, picture.tobytes()) for picture in pictures] if k > 1 else []
        seeds = [row_seed(seed, number, content) for content in contents for number in range(k - 1)]
        surest, sampled = self._generate(inputs, num_beams, max_new_tokens, k - 1, seeds)
        firsts = self._processor.batch_decode(surest, skip_special_tokens=True)
        others = self._processor.batch_decode(sampled, skip_special_tokens=True) if k > 1 else []
        captions = []
        for at, first in enumerate(firsts):
            texts = (text.strip() for text in (first, *others[at * (k - 1) : (at + 1) * (k - 1)]))
            captions.append(list(dict.fromkeys(text for text in texts if text)))
        return captions

    @torch.inference_mode()
    def _generate(
        self, inputs: dict[str, torch.Tensor], num_beams: int, max_new_tokens: int, samples: int, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens by beam search, one row an image, and ``samples`` sampled rows an image, side by side."""
        generate, encoded = self._encoded({name: value.to(self._device) for name, value in inputs.items()})
        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "use_cache": True}
        surest = generate(**encoded, **how, num_beams=num_beams, do_sample=False)
        if not samples:
            return surest, None
        sampling = LogitsProcessorList([SeededSampling(seeds, 1.0, _TOP_P)])
        sampled = generate(**encoded, **how, **_SAMPLED, num_return_sequences=samples, logits_processor=sampling)
        return surest, sampled

    def _encoded(self, inputs: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        """The function that generates captions, and its arguments.

        BLIP's ``generate`` runs its vision encoder at every call; here it has run once, and only the decoder is called
        (arXiv 2201.12086, section 3.1). Other architectures are called as they are.
        """
        if not isinstance(self._model, BlipForConditionalGeneration):
            return self._model.generate, inputs
        model: Any = self._model
        seen = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        config = model.config.text_config
        return model.text_decoder.generate, {
            "input_ids": torch.full((len(seen), 1), config.bos_token_id, device=seen.device),
            "encoder_hidden_states": seen,
            "encoder_attention_mask": torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            "eos_token_id": config.sep_token_id,
            "pad_token_id": config.pad_token_id,
        }
