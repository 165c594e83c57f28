"""The arrays of columns, computed from prompts and images by the models of the columns' roles; each prompt once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.damage import remedy
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import ColumnSpec, shard_manifest
from surd.pipeline.models import Models
from surd.pretrained.hidden_states import LayerPooling
from surd.schemas import SurdError
from surd.schemas.config import EmbedConfig
from surd.schemas.shard_format.buckets import Size, nearest_bucket, size_and_crop
from surd.schemas.shard_format.columns import SIZE
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.pixels import UNDECODABLE, covering, to_rgb
from surd.schemas.shard_format.tar import InvalidTar, TarReader

Arrays = dict[str, npt.NDArray[Any]]  # by the suffix of the member: npy, mask.npy, pooled.npy, size.npy
ArrayStream = Iterator[tuple[str, dict[ColumnSpec, Arrays]]]


def llm_arrays(
    columns: Sequence[ColumnSpec], texts: Sequence[str], settings: EmbedConfig, models: Models
) -> ArrayStream:
    """Each distinct text and its states for every column, all of one LLM; in an order of their own.

    Raises SurdError when a layer is deeper than the LLM, or a state too large for its dtype.
    """
    llm = models.embed_llm.hidden_states
    wanted: dict[ColumnSpec, LayerPooling] = {}
    for column in columns:
        assert column.pooling is not None, "an LLM column has a pooling"
        if column.layer is not None and not 0 <= column.layer <= llm.depth:
            layers = f"choose 0 to {llm.depth}, the layers of {column.model!r}"
            raise SurdError(f"config field 'embed.layers' asks for {column.layer}; {layers}")
        wanted[column] = (column.layer, column.pooling)
    distinct = sorted(set(texts))
    for at, states in llm.read(distinct, list(wanted.values()), settings.batch_tokens):
        yield distinct[at], {column: {"npy": _to_numpy(states[one], column)} for column, one in wanted.items()}


def clip_arrays(
    columns: Sequence[ColumnSpec], texts: Sequence[str], settings: EmbedConfig, models: Models
) -> ArrayStream:
    """Each distinct text with its states and mask, for the one column of that text.

    Of two encoders also with the pooled text, where a UNet is conditioned on it.
    """
    (column,), encoders = columns, models.diffusion
    for batch in batched(sorted(set(texts)), settings.batch_size):
        states, masks, pooled = encoders.text_states(batch)
        for at, text in enumerate(batch):
            arrays = {"npy": _to_numpy(states[at].half(), column), "mask.npy": masks[at].numpy()}
            if pooled is not None and column.conditions_unet:
                arrays["pooled.npy"] = _to_numpy(pooled[at].half(), column)
            yield text, {column: arrays}


def latent_arrays(
    columns: Sequence[ColumnSpec],
    build: Build,
    shard: str,
    settings: EmbedConfig,
    models: Models,
    keys: Set[str] | None = None,
) -> ArrayStream:
    """Each key of a shard, or those of ``keys``, with the latents of its image."""
    encoders = models.diffusion
    at_once = encoders.images_at_once(settings.batch_size)

    def prepare(image: tuple[str, bytes]) -> tuple[str, npt.NDArray[np.uint8]]:
        key, data = image
        try:
            return key, encoders.prepare(to_rgb(data))
        except UNDECODABLE as error:
            raise _unreadable(build, shard, key, error) from None

    images = (image for image in _images(build, shard) if keys is None or image[0] in keys)
    prepared = prefetch(prepare, images, 2 * at_once)
    for batch in batched(prepared, at_once):
        for (key, _), latents in zip(batch, encoders.latents([pixels for _, pixels in batch]).half(), strict=True):
            yield key, {column: {"npy": _to_numpy(latents, column)} for column in columns}


def bucket_arrays(
    columns: Sequence[ColumnSpec],
    build: Build,
    shard: str,
    settings: EmbedConfig,
    models: Models,
    keys: Set[str] | None = None,
) -> ArrayStream:
    """Each key of a shard, or those of ``keys``, with size and crop of its image, and the latents of its image in the
    bucket that cuts least off it.

    Those of a bucket go through the VAE together, so they come in an order of their own.
    """
    encoders = models.diffusion
    at_once = encoders.images_at_once(settings.batch_size)

    def prepare(image: tuple[str, bytes]) -> tuple[str, Size, Arrays]:
        key, data = image
        try:
            picture = to_rgb(data)
            size = encoders.buckets[nearest_bucket(*picture.size, encoders.buckets)]
            about = np.array(size_and_crop(*picture.size, size), np.int32)
            return key, size, {"pixels": covering(picture, size), SIZE: about}
        except UNDECODABLE as error:
            raise _unreadable(build, shard, key, error) from None

    def encode(waiting: list[tuple[str, Arrays]]) -> ArrayStream:
        latents = encoders.latents([arrays["pixels"] for _, arrays in waiting]).half()
        for (key, arrays), one in zip(waiting, latents, strict=True):
            yield key, {column: {"npy": _to_numpy(one, column), SIZE: arrays[SIZE]} for column in columns}

    images = (image for image in _images(build, shard) if keys is None or image[0] in keys)
    waiting: dict[Size, list[tuple[str, Arrays]]] = {}
    for key, size, arrays in prefetch(prepare, images, 2 * at_once):
        waiting.setdefault(size, []).append((key, arrays))
        if len(waiting[size]) == at_once:
            yield from encode(waiting.pop(size))
    for rest in waiting.values():
        yield from encode(rest)


def _unreadable(build: Build, shard: str, key: str, error: Exception) -> SurdError:
    return SurdError(f"{build.path(f'shards/{shard}')}: the image of {key} cannot be read ({error})")


def _images(build: Build, shard: str) -> Iterator[tuple[str, bytes]]:
    """Keys and original bytes of a shard's images, in order. Raises SurdError if the shard is not as pack wrote it."""
    file = f"shards/{shard}"
    expected = next(info.sha256 for info in shard_manifest(build).shards if info.name == shard)
    with build.open(file) as raw:
        try:
            reader = TarReader(raw, build.size(file))
            for member in reader:
                key, _, suffix = member.name.partition(".")
                if suffix in IMAGE_SUFFIXES:
                    yield key, member.data
        except InvalidTar as error:
            raise SurdError(f"{build.path(file)} is damaged ({error}); {remedy(build, file)}") from None
    if reader.sha256 != expected:
        raise SurdError(f"{build.path(file)} is damaged (its sha256 is not its manifest's); {remedy(build, file)}")


def _to_numpy(tensor: Tensor, column: ColumnSpec) -> npt.NDArray[Any]:
    """NumPy's view of a tensor; bfloat16, which it does not know, as its bits."""
    if not tensor.isfinite().all():
        remedy = "set models.dtype to bfloat16 or float32" if column.kind == "llm" else "name another models.diffusion"
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise SurdError(f"column {column.name!r}: {column.model!r} gives numbers that {dtype} cannot hold; {remedy}")
    bits: npt.NDArray[np.uint16 | np.float32] = (
        tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    ).numpy()
    return bits
