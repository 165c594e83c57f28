"""No-reference image quality: BRISQUE, CLIP-IQA by any open_clip model, and what pyiqa has (MUSIQ and others)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sur_adapter.evaluation.clip_judge import ClipEmbedder
from sur_adapter.evaluation.verdict import BATCH, open_picture
from surd.pretrained.brisque import brisque, load_brisque
from surd.pretrained.clip_iqa import ANTONYMS, clip_iqa
from surd.schemas.errors import SurdError, one_line

ImageMetric = Callable[[np.ndarray], np.ndarray]
CLIP_IQA = "clip-iqa"


def load_image_metric(metric: str, judge: str = "", device: str = "cpu") -> ImageMetric:
    """The metric: scores [S, P] of picture files [S, P]; NaN where a picture has none.

    ``brisque``, ``clip-iqa:MODEL`` with a model as in ``clip:MODEL`` (``clip-iqa`` alone: that of the judge), or a name
    of pyiqa's. SurdError if a model or its weights are missing: better before the pictures are rendered than after.
    """
    kind, _, name = metric.partition(":")
    if metric == "brisque":
        load_brisque()
        return _of_each(lambda file: brisque(open_picture(file)))
    if kind == CLIP_IQA:
        name = name or judge.removeprefix("clip:") * judge.startswith("clip:")
        if not name:
            raise SurdError(
                f"--quality: {CLIP_IQA!r} names no model, and --judge is not a clip judge; write"
                f" {CLIP_IQA}:MODEL/WEIGHTS, such as {CLIP_IQA}:ViT-B-32/openai, or {CLIP_IQA}:FOLDER"
            )
        return _clip_iqa(ClipEmbedder(name, device, "--quality", CLIP_IQA))
    return _pyiqa(metric)


def _clip_iqa(clip: ClipEmbedder) -> ImageMetric:
    antonyms = clip.embed_texts(ANTONYMS).float().cpu().numpy()

    def rate(files_SP: np.ndarray) -> np.ndarray:
        files: Sequence[Path] = list(files_SP.flat)
        batches = (files[start : start + BATCH] for start in range(0, len(files), BATCH))
        scores = [
            clip_iqa(clip.embed_files(batch).float().cpu().numpy(), antonyms, clip.logit_scale) for batch in batches
        ]
        return np.concatenate(scores).reshape(files_SP.shape)

    return rate


def _pyiqa(metric: str) -> ImageMetric:
    try:
        import pyiqa
    except ImportError as error:
        raise SurdError(
            f"--quality: {metric!r} is neither brisque nor {CLIP_IQA}, and pyiqa, which has more metrics, is not"
            " installed; pip install pyiqa, or correct the name"
        ) from error
    if metric not in pyiqa.list_models(metric_mode="NR"):
        raise SurdError(
            f"--quality: {metric!r} is not a no-reference metric of pyiqa; try brisque, {CLIP_IQA}:MODEL or musiq"
        )
    try:
        measure = pyiqa.create_metric(metric)
    except Exception as error:  # it downloads weights by more than one library
        raise SurdError(
            f"--quality: the weights of {metric!r} are missing and cannot be downloaded ({one_line(error, 300)}); "
            "load them once on a machine with a network, or drop the flag"
        ) from error
    return _of_each(lambda file: float(measure(str(file))))


def _of_each(measure: Callable[[Path], float | None]) -> ImageMetric:
    return lambda files_SP: np.array([measure(file) for file in files_SP.flat], float).reshape(files_SP.shape)
