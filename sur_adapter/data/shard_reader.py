"""Samples of one shard and the columns beside it, matched by key, each read where it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sur_adapter.data.batch import TrainingSample
from sur_adapter.data.prompt_index import PromptIndex
from sur_adapter.data.tar_index import Span, TarIndex
from surd.schemas.errors import SurdError
from surd.schemas.manifest import EMPTY_PROMPT_KEY, ColumnManifest, ShardInfo
from surd.schemas.shard_format.columns import ARRAY, MASK, POOLED, check_array, check_mask, check_pooled
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES
from surd.schemas.shard_format.npy import read_npy

FIELD_SUFFIXES = {ARRAY: "", MASK: "_mask", POOLED: "_pooled"}


class Texts(Protocol):
    """Where keys, prompts and, if read, images of one shard come from."""

    name: str
    keys: list[str]

    def read(self, index: int) -> tuple[str, str, bytes | None]:
        """Simple prompt, complex prompt and image of the ``index``-th sample."""

    def close(self) -> None: ...


class TarTexts:
    """Prompts, and with ``image`` also images, of the shard itself: one read a sample."""

    def __init__(self, tar: TarIndex, *, image: bool) -> None:
        self.name, self.keys = tar.name, tar.keys
        self._tar = tar
        self._spans = [self._spans_of(key, members, image) for key, members in zip(tar.keys, tar.members, strict=True)]

    def read(self, index: int) -> tuple[str, str, bytes | None]:
        begin, size, spans = self._spans[index]
        data = self._tar.read(begin, size)
        simple, complex_, *image = [data[start : start + length] for start, length in spans]
        return simple.decode(errors="replace"), complex_.decode(errors="replace"), image[0] if image else None

    def close(self) -> None:
        self._tar.close()

    def _spans_of(self, key: str, members: dict[str, Span], image: bool) -> tuple[int, int, list[Span]]:
        """Where the sample's wanted members lie: first byte, bytes in all, and each one's place in them."""
        found = [members.get("simple.txt"), members.get("complex.txt")]
        if image:
            found.append(next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None))
        spans = [span for span in found if span is not None]
        if len(spans) < len(found):
            raise SurdError(f"{self.name}: sample {key} lacks its image, simple.txt or complex.txt; pack it again")
        begin = min(start for start, _ in spans)
        return begin, max(sum(span) for span in spans) - begin, [(start - begin, size) for start, size in spans]


class IndexTexts:
    """Prompts from the index, where images are not read: the shard itself is never opened."""

    def __init__(self, index: PromptIndex, shard: ShardInfo) -> None:
        self.name = index.name
        self.keys, self._simple, self._complex = index.read(shard)

    def read(self, index: int) -> tuple[str, str, bytes | None]:
        return self._simple[index], self._complex[index], None

    def close(self) -> None:
        pass


class EmptyPrompt:
    """The one sample that is no shard's."""

    def __init__(self, name: str) -> None:
        self.name, self.keys = name, [EMPTY_PROMPT_KEY]

    def read(self, index: int) -> tuple[str, str, bytes | None]:
        return "", "", None

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class ColumnReader:
    """One column's tar of a shard."""

    field: str
    manifest: ColumnManifest
    tar: TarIndex

    def read(self, index: int) -> dict[str, np.ndarray]:
        """The sample's array under "npy" and, where the column has them, "mask.npy" and "pooled.npy"."""
        key, members, manifest = self.tar.keys[index], self.tar.members[index], self.manifest
        array = self._array(key, ARRAY, members, lambda values: check_array(values, manifest))
        arrays = {ARRAY: array}
        if manifest.mask:
            arrays[MASK] = self._array(key, MASK, members, lambda values: check_mask(values, len(array)))
        if manifest.pooled is not None:
            arrays[POOLED] = self._array(key, POOLED, members, lambda values: check_pooled(values, manifest))
        return arrays

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
        simple, complex_, image = self._texts.read(index)
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
            simple=simple,
            complex=complex_,
            image=image,
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
