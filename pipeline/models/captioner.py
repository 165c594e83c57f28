"""The captioner: sentences that describe an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipForConditionalGeneration,
    LogitsProcessorList,
    VisionEncoderDecoderModel,
)

from surd.pipeline.models.answer_text import plain_text
from surd.pipeline.models.pretrained import load_weights
from surd.pipeline.models.sampling import SeededSampling, row_seed

_TOP_P = 0.9
_SAMPLED = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "num_beams": 1}


class Captioner:
    """A transformers image-to-text model that captions without a prompt (BLIP, GIT, BLIP-2, ViT-GPT2), or with one."""

    def __init__(self, ref: str, device: str) -> None:
        model = load_weights(AutoModelForImageTextToText, ref, dtype=torch.float32)
        self._model, self._device = model.to(device).eval(), device
        if isinstance(model, VisionEncoderDecoderModel):  # published without a processor that knows both sides
            self._processor: Any = AutoImageProcessor.from_pretrained(ref)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(ref)
        else:
            self._processor = AutoProcessor.from_pretrained(ref)
            self._tokenizer = self._processor.tokenizer

    def caption(
        self, images: Sequence[Image.Image], k: int, num_beams: int, max_new_tokens: int, seed: int,
        prompt: str | None = None,
    ) -> list[list[str]]:  # fmt: skip
        """Up to ``k`` different captions per image: the first by beam search, the others sampled (top-p 0.9).

        What is sampled for an image depends on its pixels and the seed, not on the batch or on what else is running.
        ``prompt``: what the model is asked; what it repeats of it is left out.
        """
        pictures = [image.convert("RGB") for image in images]
        inputs = self._inputs(pictures, prompt)
        contents = [row_seed(picture.size, picture.tobytes()) for picture in pictures] if k > 1 else []
        seeds = [row_seed(seed, number, content) for content in contents for number in range(k - 1)]
        surest, sampled = self._generate(inputs, num_beams, max_new_tokens, k - 1, seeds)
        firsts = self._texts(surest, inputs)
        others = [] if sampled is None else self._texts(sampled, inputs)
        captions = []
        for at, first in enumerate(firsts):
            texts = (plain_text(text) for text in (first, *others[at * (k - 1) : (at + 1) * (k - 1)]))
            captions.append(list(dict.fromkeys(text for text in texts if text)))
        return captions

    def _inputs(self, pictures: list[Image.Image], prompt: str | None) -> dict[str, torch.Tensor]:
        if not prompt:
            inputs = self._processor(images=pictures, return_tensors="pt")
        elif getattr(self._processor, "chat_template", None):
            self._tokenizer.padding_side = "left"
            chats = [
                [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]}]
                for picture in pictures
            ]
            inputs = self._processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, padding=True, return_tensors="pt"
            )
        else:
            place = getattr(self._processor, "image_token", None)
            asked = f"{place}{prompt}" if isinstance(place, str) and place and place not in prompt else prompt
            inputs = self._processor(images=pictures, text=[asked] * len(pictures), padding=True, return_tensors="pt")
        return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def _texts(self, tokens: torch.Tensor, inputs: dict[str, torch.Tensor]) -> list[str]:
        """The new text of each row; a model of one tower gives back what it was asked before its answer."""
        asked = inputs.get("input_ids")
        if asked is not None and tokens.shape[1] >= asked.shape[1]:
            asked = asked.to(tokens.device).repeat_interleave(len(tokens) // len(asked), dim=0)
            if torch.equal(tokens[:, : asked.shape[1]], asked):
                tokens = tokens[:, asked.shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

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
        if not isinstance(self._model, BlipForConditionalGeneration) or "input_ids" in inputs:
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
