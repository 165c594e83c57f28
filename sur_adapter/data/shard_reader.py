"""Samples of one shard and the columns beside it, matched by key, each read where it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from sur_adapter.data.batch import TrainingSample
from sur_adapter.data.captions import NamedTexts
from sur_adapter.data.prompt_index import PromptIndex
from sur_adapter.data.tar_index import Span, TarIndex
from surd.schemas.errors import SurdError
from surd.schemas.manifest import EMPTY_PROMPT_KEY, ColumnManifest, ShardInfo
from surd.schemas.shard_format.captions import CAPTIONS, parse_captions
from surd.schemas.shard_format.columns import (
    ARRAY,
    MASK,
    POOLED,
    SIZE,
    check_array,
    check_mask,
    check_pooled,
    check_size,
)
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.npy import read_npy

FIELD_SUFFIXES = {ARRAY: "", MASK: "_mask", POOLED: "_pooled", SIZE: "_size"}
_IMAGE = "image"  # whatever its suffix


class SampleTexts(NamedTuple):
    """What is read of a sample beside its columns."""

    simple: str
    complex: str
    image: bytes | None = None
    captions: NamedTexts = ()


class Texts(Protocol):
    """Where keys, prompts and, if read, images and captions of one shard come from."""

    name: str
    keys: list[str]

    def read(self, index: int) -> SampleTexts:
        """Of the ``index``-th sample."""

    def close(self) -> None: ...


class TarTexts:
    """Prompts, and with ``image`` and ``captions`` also those, of the shard itself: one read a sample."""

    def __init__(self, tar: TarIndex, *, image: bool, captions: bool = False) -> None:
        self.name, self.keys = tar.name, tar.keys
        self._tar, self._captions = tar, captions
        self._spans = [self._spans_of(key, members, image) for key, members in zip(tar.keys, tar.members, strict=True)]

    def read(self, index: int) -> SampleTexts:
        begin, size, spans = self._spans[index]
        data = self._tar.read(begin, size)
        parts = {name: data[start : start + length] for name, (start, length) in spans.items()}
        return SampleTexts(
            parts["simple.txt"].decode(errors="replace"),
            parts["complex.txt"].decode(errors="replace"),
            parts.get(_IMAGE),
            self._named_texts(index, parts[CAPTIONS]) if CAPTIONS in parts else (),
        )

    def close(self) -> None:
        self._tar.close()

    def _named_texts(self, index: int, data: bytes) -> NamedTexts:
        try:
            return tuple((caption.name, caption.text) for caption in parse_captions(data))
        except ValueError as error:
            raise SurdError(f"{self.name}: member {self.keys[index]}.{CAPTIONS}: {error}; pack it again") from None

    def _spans_of(self, key: str, members: dict[str, Span], image: bool) -> tuple[int, int, dict[str, Span]]:
        """Where the sample's wanted members lie: first byte, bytes in all, and each one's place in them."""
        found = {name: members.get(name) for name in ("simple.txt", "complex.txt")}
        if image:
            found[_IMAGE] = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
        if self._captions and CAPTIONS in members:
            found[CAPTIONS] = members[CAPTIONS]
        spans = {name: span for name, span in found.items() if span is not None}
        if len(spans) < len(found):
            raise SurdError(f"{self.name}: sample {key} lacks its image, simple.txt or complex.txt; pack it again")
        begin = min(start for start, _ in spans.values())
        size = max(sum(span) for span in spans.values()) - begin
        return begin, size, {name: (start - begin, length) for name, (start, length) in spans.items()}


class IndexTexts:
    """Prompts from the index, where images are not read: the shard itself is never opened."""

    def __init__(self, index: PromptIndex, shard: ShardInfo, *, captions: bool = False) -> None:
        self.name = index.name
        self.keys, self._simple, self._complex = index.read(shard)
        self._captions = index.captions(shard) if captions else None

    def read(self, index: int) -> SampleTexts:
        captions = self._captions[index] if self._captions else ()
        return SampleTexts(self._simple[index], self._complex[index], None, captions)

    def close(self) -> None:
        pass


class EmptyPrompt:
    """The one sample that is no shard's."""

    def __init__(self, name: str) -> None:
        self.name, self.keys = name, [EMPTY_PROMPT_KEY]

    def read(self, index: int) -> SampleTexts:
        return SampleTexts("", "")

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class ColumnReader:
    """One column's tar of a shard. ``digits``: the buckets of its samples by the manifest, if it has some."""

    field: str
    manifest: ColumnManifest
    tar: TarIndex
    digits: str = ""

    def read(self, index: int) -> dict[str, np.ndarray]:
        """The sample's array under "npy" and, where the column has them, "mask.npy", "pooled.npy" and "size.npy"."""
        key, members, manifest = self.tar.keys[index], self.tar.members[index], self.manifest
        array = self._array(key, ARRAY, members, lambda values: check_array(values, manifest))
        arrays = {ARRAY: array}
        if manifest.mask:
            arrays[MASK] = self._array(key, MASK, members, lambda values: check_mask(values, len(array)))
        if manifest.pooled is not None:
            arrays[POOLED] = self._array(key, POOLED, members, lambda values: check_pooled(values, manifest))
        if manifest.buckets is not None:
            arrays[SIZE] = self._array(key, SIZE, members, lambda values: self._check_bucket(values, array, index))
        return arrays

    def _check_bucket(self, size: np.ndarray, latents: np.ndarray, index: int) -> None:
        assert self.manifest.buckets is not None
        found, digit = check_size(size, latents, self.manifest.buckets), self.digits[index]
        if found != digit:
            raise ValueError(f"its bucket is {found!r}, and the manifest says {digit!r}")

    def _array(
        self, key: str, suffix: str, members: dict[str, Span], check: Callable[[np.ndarray], None]
    ) -> np.ndarray:
        try:
            if suffix not in members:
                raise ValueError("it is missing")
            array = read_npy(self.tar.read(*members[suffix]))
            check(array)
        except (ValueError, TypeError) as error:
            raise SurdError(f"{self.tar.name}: member {key}.{suffix}: {error}; embed again") from error
        return array


class Shard:
    """One open shard: texts (and images), and columns whose keys are the same in the same order.

    Raises SurdError naming the column's tar and its first key that is not the shard's.
    """

    def __init__(self, texts: Texts, columns: list[ColumnReader]) -> None:
        self._texts, self._columns = texts, columns
        for column in columns:
            _same_keys(column.tar, texts)

    def read(self, index: int) -> TrainingSample:
        texts = self._texts.read(index)
        key = self._texts.keys[index]
        arrays: dict[str, np.ndarray] = {}
        places: dict[str, str] = {}
        for column in self._columns:
            for suffix, array in column.read(index).items():
                name = column.field + FIELD_SUFFIXES[suffix]
                arrays[name], places[name] = array, f"{column.tar.name}: member {key}.{suffix}"
        return TrainingSample(
            key=key,
            shard=self._texts.name,
            simple=texts.simple,
            complex=texts.complex,
            image=texts.image,
            captions=texts.captions,
            arrays=arrays,
            places=places,
        )

    def close(self) -> None:
        self._texts.close()
        for column in self._columns:
            column.tar.close()


def _same_keys(tar: TarIndex, texts: Texts) -> None:
    if tar.keys == texts.keys:
        return
    for ours, theirs in zip(tar.keys, texts.keys, strict=False):
        if ours != theirs:
            raise SurdError(f"{tar.name}: member {ours}.npy where {texts.name} has {theirs}; embed again")
    if len(tar.keys) > len(texts.keys):
        surplus = tar.keys[len(texts.keys)]
        raise SurdError(f"{tar.name}: member {surplus}.npy after the last sample of {texts.name}; embed again")
    missing = texts.keys[len(tar.keys)]
    raise SurdError(f"{tar.name}: ends where {texts.name} goes on with {missing}; embed again")
