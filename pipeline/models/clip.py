"""CLIP: images and texts as unit vectors, whose dot product measures how well they match."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image
from torchvision.transforms import CenterCrop

from surd.pipeline.batching import batched
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pretrained.batch_limit import BatchLimit
from surd.schemas.clip_ref import clip_ref

_STRIP = 8  # times as long as wide
_STEP = 8  # tokens: a batch of texts is this much longer than another, or a multiple of it
FloatArray = npt.NDArray[np.float32]


def load_clip(ref: str, device: str) -> Clip:
    """The model that a string names (``clip_ref``), by open_clip or by transformers.

    Raises SurdError when the string names none, and other errors when its weights are not whole.
    """
    named = clip_ref(ref)
    if named.kind in ("open_clip", "checkpoint"):
        return OpenClip(named.name, named.weights, device)
    if (Path(named.name) / "open_clip_config.json").is_file():
        return OpenClip(f"local-dir:{named.name}", None, device)
    from surd.pipeline.models.transformers_clip import TransformersClip

    return TransformersClip(named.name, device)


class Clip(ABC):
    """Images and texts as vectors that are compared; see ``ClipEncoders`` and ``model_cache``."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """The factor between a difference of cosines and a difference of log odds."""

    @abstractmethod
    def prepare(self, image: Image.Image) -> torch.Tensor:
        """An image as ``embed_prepared`` takes it, [3, side, side]; any thread may do this ahead of the model."""

    @abstractmethod
    def embed_prepared(self, pixels: Sequence[torch.Tensor]) -> FloatArray:
        """Images that went through ``prepare`` as unit vectors, [len(pixels), width] float32."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256, on_done: OnDone = uncounted) -> FloatArray:
        """Texts as unit vectors, [len(texts), width]. Text beyond the model's context is not seen.

        ``on_done`` is told of texts as they are embedded.
        """

    def embed_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Images as unit vectors, [len(images), width] float32."""
        return self.embed_prepared([self.prepare(image) for image in images])

    def embed_distinct(self, texts: Sequence[str], batch_size: int, on_done: OnDone = uncounted) -> FloatArray:
        """As ``embed_texts``, each distinct text encoded once, texts of like length together."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        row_of = {text: row for row, text in enumerate(distinct)}
        return self.embed_texts(distinct, batch_size, on_done)[[row_of[text] for text in texts]]


class ClipEncoders(Clip):
    """A pair of encoders, of images and of texts."""

    def __init__(self, model: Any, device: str) -> None:
        self._model, self._device = model.to(device).eval(), device
        self._limit = BatchLimit("models.clip")

    @property
    def logit_scale(self) -> float:
        """See Clip."""
        return float(self._model.logit_scale.detach().exp())

    @abstractmethod
    def _encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, side, side] -> [B, width]."""

    @abstractmethod
    def _tokens(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """What the text encoder takes, each [len(texts), longest], and how many of these tokens each text needs."""

    @abstractmethod
    def _encode_texts(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, width] of tokens [B, length]."""

    @torch.inference_mode()
    def embed_prepared(self, pixels: Sequence[torch.Tensor]) -> FloatArray:
        """See Clip."""

        def compute(batch: Sequence[torch.Tensor]) -> FloatArray:
            return _unit(self._encode_images(torch.stack(list(batch)).to(self._device)))

        return np.concatenate(self._limit.run(compute, pixels))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256, on_done: OnDone = uncounted) -> FloatArray:
        """See Clip.

        Only texts of one padded length share a batch. Padding is masked, but with more of it sums are added up in
        another order: a text's last bits would depend on the longest text beside it.
        """
        if not texts:
            return np.zeros((0, 0), np.float32)
        tokens, needed = self._tokens(list(texts))
        longest = next(iter(tokens.values())).shape[1]
        of_length: dict[int, list[int]] = defaultdict(list)
        for at, length in enumerate(needed):
            of_length[min(-(-length // _STEP) * _STEP, longest)].append(at)
        vectors: list[FloatArray] = []
        for length, members in of_length.items():

            def compute(batch: Sequence[int], length: int = length) -> FloatArray:
                inputs = {name: value[list(batch), :length].to(self._device) for name, value in tokens.items()}
                return _unit(self._encode_texts(inputs))

            for batch in batched(members, batch_size):
                vectors += self._limit.run(compute, batch)
                on_done(len(batch))
        rows = [at for members in of_length.values() for at in members]
        return np.concatenate(vectors)[np.argsort(rows)]


class OpenClip(ClipEncoders):
    """Any open_clip model: a folder with ``open_clip_config.json``, a name with the tag or the file of its weights, or
    ``hf-hub:org/name``."""

    def __init__(self, name: str, weights: str | None, device: str) -> None:
        # open_clip's other constructors give a folder or repository that lacks its weights random ones.
        model, self._preprocess = open_clip.create_model_from_pretrained(name, pretrained=weights)
        super().__init__(model, device)
        self._crops = any(isinstance(step, CenterCrop) for step in getattr(self._preprocess, "transforms", ()))
        self._tokenize: Any = open_clip.get_tokenizer(name)

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """See Clip."""
        picture = image.convert("RGB")
        pixels: torch.Tensor = self._preprocess(middle(picture) if self._crops else picture)
        return pixels

    def _encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self._model.encode_image(pixels)
        return vectors

    def _tokens(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[int]]:
        ids = self._tokenize(texts)
        return {"ids": ids}, (ids.argmax(dim=-1) + 1).tolist() if self._is_causal else [ids.shape[1]] * len(ids)

    def _encode_texts(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = tokens["ids"]
        vectors: torch.Tensor = self._encode_short(ids) if self._is_causal else self._model.encode_text(ids)
        return vectors

    def _encode_short(self, ids: torch.Tensor) -> torch.Tensor:
        """What open_clip's ``encode_text`` gives, [B, width], of fewer tokens than the context, [B, length]: a causal
        tower cannot see the padding behind a text's end, and most prompts are far shorter than the context."""
        model, ends, length = self._model, ids.argmax(dim=-1), ids.shape[1]
        x = model.token_embedding(ids) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        return x[torch.arange(len(ids)), ends] @ model.text_projection

    @property
    def _is_causal(self) -> bool:
        model = self._model
        return (
            isinstance(model, open_clip.CLIP)
            and model.text_pool_type == "argmax"
            and model.attn_mask is not None
            and isinstance(model.text_projection, torch.nn.Parameter)
            and model.transformer.get_cast_dtype() == torch.float32
        )


def middle(image: Image.Image) -> Image.Image:
    """The middle of a strip, which is all that is left when it has been resized by its shorter side and cropped: 1 x
    60000 pixels would become 64 x 3,840,000 first. Other pictures stay as they are."""
    room = _STRIP * min(image.size)
    left, top = (max(0, side - room) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image


def _unit(vectors: torch.Tensor) -> FloatArray:
    unit: FloatArray = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit
