"""CLIP and SigLIP models in transformers' own format."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from surd.pipeline.models.clip import ClipEncoders, middle
from surd.pretrained.weights import load_weights

#: Models with one vector an image and one a text, and a temperature.
MODEL_TYPES = ("clip", "siglip", "siglip2", "chinese_clip", "altclip", "align", "metaclip_2")


class TransformersClip(ClipEncoders):
    """A folder or hub id with the ``config.json`` of one of MODEL_TYPES."""

    def __init__(self, ref: str, device: str) -> None:
        config = AutoConfig.from_pretrained(ref)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(f"its config.json says {config.model_type!r}; name one of {', '.join(MODEL_TYPES)}")
        super().__init__(load_weights(AutoModel, ref, dtype=torch.float32), device)
        self._processor: Any = AutoImageProcessor.from_pretrained(ref)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(ref)
        positions = getattr(config.text_config, "max_position_embeddings", self._tokenizer.model_max_length)
        # SigLIP was trained on padded texts and sees the padding; the others hide it.
        sees_padding = config.model_type.startswith("siglip")
        self._cut = {
            "padding": "max_length",  # to one length, whatever else is encoded; embed_texts cuts what is masked
            "truncation": True,
            "max_length": min(positions, self._tokenizer.model_max_length),
            "return_attention_mask": not sees_padding,
            "return_tensors": "pt",
        }
        odd = set(self._processor(images=Image.new("RGB", (64, 64)), return_tensors="pt")) - {"pixel_values"}
        if odd:
            raise ValueError(f"it needs {sorted(odd)[0]} beside an image's pixels; name a model of one fixed size")

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """See Clip."""
        picture = image.convert("RGB")
        cut = middle(picture) if getattr(self._processor, "do_center_crop", False) else picture
        pixels: torch.Tensor = self._processor(images=cut, return_tensors="pt")["pixel_values"][0]
        return pixels

    def _encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return _pooled(self._model.get_image_features(pixel_values=pixels))

    def _tokens(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[int]]:
        tokens = dict(self._tokenizer(texts, **self._cut))
        ids = tokens["input_ids"]
        if self._tokenizer.padding_side == "left" or "attention_mask" not in tokens:
            return tokens, [ids.shape[1]] * len(ids)
        return tokens, tokens["attention_mask"].sum(dim=1).tolist()

    def _encode_texts(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return _pooled(self._model.get_text_features(**tokens))


def _pooled(features: Any) -> torch.Tensor:
    vectors: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return vectors
