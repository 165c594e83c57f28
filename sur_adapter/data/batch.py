"""Samples as stored in the shards, and the training batches they are decoded and stacked into."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sur_adapter.data.captions import NamedTexts
from sur_adapter.data.column_arrays import to_float
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest
from surd.schemas.shard_format.pixels import UNDECODABLE, square, to_rgb


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """One sample as stored: ``image`` encoded, or None if images are not read.

    ``arrays`` has a stored array for each column read, named as by ``batch_field``, and "..._mask", "..._pooled" and
    "..._size" if the column has them. ``places`` names the tar member of each array, for error messages. ``captions``
    are read only if one of them is to be drawn, and ``caption`` is the text drawn.
    """

    key: str
    shard: str
    simple: str
    complex: str
    image: bytes | None = None
    captions: NamedTexts = ()
    caption: str | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B samples; None is what was not requested. Numbers are float32, masks bool (True: a real token).

    ``captions`` has the text drawn for each sample; None: captions are not drawn, the simple prompts stand for them.
    ``images_BCHW`` in [-1, 1]. ``llm_BW`` of a pooled column, ``llm_BLW`` and its mask of a token-level one, padded to
    the batch's longest. Latents are the VAE's, neither sampled nor scaled (factors: the column's manifest).
    ``latents_size_B6``: of latents in buckets what ``SizeAndCrop`` says of each picture, pixels.
    """

    keys: list[str]
    simple: list[str]
    complex: list[str]
    captions: list[str] | None = None
    images_BCHW: Tensor | None = None
    llm_BW: Tensor | None = None
    llm_BLW: Tensor | None = None
    llm_mask_BL: Tensor | None = None
    latents_mean_BCHW: Tensor | None = None
    latents_std_BCHW: Tensor | None = None
    latents_size_B6: Tensor | None = None
    clip_simple_BTD: Tensor | None = None
    clip_simple_mask_BT: Tensor | None = None
    clip_simple_pooled_BP: Tensor | None = None
    clip_complex_BTD: Tensor | None = None
    clip_complex_mask_BT: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on ``device``; a copy from pinned memory does not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch with its tensors in page-locked memory; torch's DataLoader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Batch:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})


def batch_field(column: ColumnManifest) -> str:
    """The field of a batch that a column fills: llm, latents, clip_simple or clip_complex."""
    return f"clip_{column.text}" if column.kind == "clip" else column.kind


def collate(samples: list[TrainingSample], image_size: int | None = None) -> Batch:
    """Decode and stack samples; images become ``image_size`` squared (required if there are images).

    Raises SurdError naming tar and member of an image that does not decode, or of an array that is not finite or not
    of the others' shape.
    """
    parts: dict[str, Tensor] = {}
    if samples[0].image is not None:
        assert image_size, "images are read, so their size must be given"
        pixels = np.stack([decode(sample, image_size) for sample in samples])
        parts["images_BCHW"] = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    for name in samples[0].arrays:
        parts |= _stack(samples, name)
    return Batch(
        keys=[sample.key for sample in samples],
        simple=[sample.simple for sample in samples],
        complex=[sample.complex for sample in samples],
        captions=None if samples[0].caption is None else [sample.caption or "" for sample in samples],
        **parts,
    )


def decode(sample: TrainingSample, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the picture that every stage of the pipeline sees, resized and centre-cropped."""
    assert sample.image is not None
    try:
        return square(to_rgb(sample.image), size)
    except UNDECODABLE as error:
        raise SurdError(f"{sample.shard}: the image of {sample.key} cannot be read ({error}); pack it again") from error


def _stack(samples: list[TrainingSample], name: str) -> dict[str, Tensor]:
    arrays = [sample.arrays[name] for sample in samples]
    if name.endswith("_mask"):
        return {f"{name}_BT": torch.from_numpy(_even(samples, name, arrays)).bool()}
    if name.endswith("_size"):
        return {f"{name}_B6": torch.from_numpy(_even(samples, name, arrays)).float()}
    if name == "llm" and arrays[0].ndim == 2:
        stored, mask = _pad(arrays)
        values = to_float(stored)
        parts = {"llm_BLW": values, "llm_mask_BL": torch.from_numpy(mask)}
    else:
        values = to_float(_even(samples, name, arrays))
        own = {"llm": ["llm_BW"], "latents": ["latents_mean_BCHW", "latents_std_BCHW"]}
        names = own.get(name, [f"{name}_BP" if name.endswith("_pooled") else f"{name}_BTD"])
        parts = dict(zip(names, values.chunk(len(names), dim=1), strict=True))
    _check_finite(samples, name, values)
    return parts


def _check_finite(samples: list[TrainingSample], name: str, values: Tensor) -> None:
    if bool(values.sum().isfinite()):  # a tenth of the time of testing every number
        return
    for sample, value in zip(samples, values, strict=True):
        if not bool(value.isfinite().all()):
            raise SurdError(f"{sample.places[name]} holds NaN or infinity; embed again")


def _even(samples: list[TrainingSample], name: str, arrays: list[np.ndarray]) -> np.ndarray:
    for sample, array in zip(samples, arrays, strict=True):
        if array.shape != arrays[0].shape:
            first = f"{arrays[0].shape} of {samples[0].places[name]}"
            raise SurdError(f"{sample.places[name]} has shape {array.shape}, not the {first}; embed again")
    return np.stack(arrays)


def _pad(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Token-level states stacked, zeros after the last token, and the mask of real tokens."""
    lengths = np.array([len(array) for array in arrays])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    stored = np.zeros((*mask.shape, arrays[0].shape[1]), arrays[0].dtype)
    stored[mask] = np.concatenate(arrays)
    return stored, mask
