"""Pictures and prompts as the tensors that an image-to-text model reads, each family in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from surd.pipeline.models.captioner_families import BY_TASK, PLACES_PICTURE, TEXTLESS

#: What processors give for training alone.
_UNREAD = ("labels",)


class CaptionInputs:
    """The processor of an image-to-text model: a chat template's, a task's, or one that takes a picture alone.

    ``kind``: the ``model_type`` of its config; ``encoder_decoder``: the answer comes from a decoder of its own.
    """

    def __init__(self, ref: str, kind: str, encoder_decoder: bool) -> None:
        self._kind = kind
        if kind in TEXTLESS:  # published without a processor that knows both sides
            self._processor: Any = AutoImageProcessor.from_pretrained(ref)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(ref)
        else:
            self._processor = AutoProcessor.from_pretrained(ref)
            self.tokenizer = self._processor.tokenizer
        self._template = None if kind in BY_TASK else _chat_template(self._processor, self.tokenizer)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if not encoder_decoder:
            # An answer follows the last token of a row: padding on the right would stand between the two.
            self.tokenizer.padding_side = "left"

    def of(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """One row for each picture and what is asked about it; texts are all "", or none is."""
        if not any(texts):
            inputs = self._processor(images=list(pictures), return_tensors="pt")
        elif self._template:
            inputs = self._processor.apply_chat_template(
                [_chat(picture, text) for picture, text in zip(pictures, texts, strict=True)],
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        else:
            inputs = self._processor(
                images=list(pictures), text=[self._placed(text) for text in texts], padding=True, return_tensors="pt"
            )
        return {
            name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and name not in _UNREAD
        }

    def _placed(self, text: str) -> str:
        """A text with the mark of the picture before it, where there is one and the processor does not place it."""
        place = getattr(self._processor, "image_token", None)
        if self._kind in PLACES_PICTURE or not isinstance(place, str) or not place or place in text:
            return text
        return f"{place}{text}"


def _chat_template(*owners: Any) -> str | None:
    """The template of the first that has one; of several the default one."""
    templates = (getattr(owner, "chat_template", None) for owner in owners)
    template = next((one for one in templates if one), None)
    return template.get("default") if isinstance(template, dict) else template


def _chat(picture: Image.Image, text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}]}]
