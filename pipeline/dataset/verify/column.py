"""Checks the members of a column's tar, as they come: names, order, dtype, shape, NaN."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy.typing as npt

from surd.schemas import ColumnManifest
from surd.schemas.shard_format.columns import ARRAY, MASK, POOLED, check_array, check_mask, check_pooled
from surd.schemas.shard_format.npy import is_finite, read_npy
from surd.schemas.shard_format.tar import TarMember

_ARRAY, _MASK, _POOLED = (f".{suffix}" for suffix in (ARRAY, MASK, POOLED))


class ColumnChecker:
    """What the members of one tar of a column must be; ``keys`` are those of its shard, None where that is broken."""

    def __init__(self, column: ColumnManifest, keys: list[str] | None) -> None:
        self._column, self._shard_keys = column, keys
        self._names: list[str] = []
        self._tokens = 0

    def member(self, member: TarMember) -> Iterator[tuple[str, str]]:
        """Take the next array; what is wrong with it."""
        self._names.append(member.name)
        try:
            if member.name.endswith(_MASK):
                check_mask(read_npy(member.data), self._tokens)
            elif member.name.endswith(_POOLED):
                array = read_npy(member.data)
                check_pooled(array, self._column)
                self._check_finite(array)
            elif member.name.endswith(_ARRAY):
                array = read_npy(member.data)
                check_array(array, self._column)
                self._check_finite(array)
                self._tokens = int(array.shape[0])
            else:
                yield member.name, "it is not a file of a column"
        except ValueError as error:
            yield member.name, str(error)

    def end(self) -> tuple[list[str], list[tuple[str | None, str]]]:
        """The keys in their order, and where the members are not those that the shard's keys ask for."""
        keys = [name.removesuffix(_ARRAY) for name in self._names if not name.endswith((_MASK, _POOLED))]
        suffixes = [_ARRAY, *[_MASK] * self._column.mask, *[_POOLED] * (self._column.pooled is not None)]
        wanted = [
            f"{key}{suffix}" for key in (keys if self._shard_keys is None else self._shard_keys) for suffix in suffixes
        ]
        if wanted == self._names:
            return keys, []
        has, want = next((a, b) for a, b in zip_longest(self._names, wanted) if a != b)
        if want is None:
            return keys, [(has, "its shard has no such sample")]
        if want not in self._names:
            return keys, [(want, "it is missing: its shard has that sample")]
        return keys, [(has, f"it stands where {want} belongs, by the order of its shard")]

    def _check_finite(self, array: npt.NDArray[Any]) -> None:
        if not is_finite(array, bfloat16=self._column.dtype == "bfloat16"):
            raise ValueError("it holds NaN or infinity")
