"""Checks the members of a column's tar, as they come: names, order, dtype, shape, bucket, NaN."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy.typing as npt

from surd.schemas import ColumnManifest
from surd.schemas.shard_format.columns import (
    ARRAY,
    MASK,
    POOLED,
    SIZE,
    check_array,
    check_mask,
    check_pooled,
    check_size,
    members_of,
)
from surd.schemas.shard_format.npy import is_finite, read_npy
from surd.schemas.shard_format.tar import TarMember

_ARRAY, _MASK, _POOLED, _SIZE = (f".{suffix}" for suffix in (ARRAY, MASK, POOLED, SIZE))


class ColumnChecker:
    """What the members of one tar of a column must be; ``keys`` are those of its shard, None where that is broken.

    ``digits`` are the buckets that the manifest gives its samples, if it has any.
    """

    def __init__(self, column: ColumnManifest, keys: list[str] | None, digits: str | None = None) -> None:
        self._column, self._shard_keys, self._digits = column, keys, digits
        self._names: list[str] = []
        self._tokens = 0
        self._latents: npt.NDArray[Any] | None = None
        self._found_digits: dict[str, str] = {}  # name of the member -> its bucket

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
            elif member.name.endswith(_SIZE):
                if self._column.buckets and self._latents is not None:  # without buckets, that it is there is a finding
                    found = check_size(read_npy(member.data), self._latents, self._column.buckets)
                    self._found_digits[member.name] = found
            elif member.name.endswith(_ARRAY):
                self._latents = None
                array = read_npy(member.data)
                check_array(array, self._column)
                self._check_finite(array)
                self._tokens, self._latents = int(array.shape[0]), array
            else:
                yield member.name, "it is not a file of a column"
        except ValueError as error:
            yield member.name, str(error)

    def end(self) -> tuple[list[str], list[tuple[str | None, str]]]:
        """The keys in their order, and where the members are not those that the shard's keys ask for."""
        keys = [name.removesuffix(_ARRAY) for name in self._names if not name.endswith((_MASK, _POOLED, _SIZE))]
        suffixes = members_of(self._column)
        wanted = [
            f"{key}.{suffix}" for key in (keys if self._shard_keys is None else self._shard_keys) for suffix in suffixes
        ]
        if wanted == self._names:
            return keys, list(self._other_buckets(keys))
        has, want = next((a, b) for a, b in zip_longest(self._names, wanted) if a != b)
        if want is None:
            return keys, [(has, "its shard has no such sample")]
        if want not in self._names:
            return keys, [(want, "it is missing: its shard has that sample")]
        return keys, [(has, f"it stands where {want} belongs, by the order of its shard")]

    def _other_buckets(self, keys: list[str]) -> Iterator[tuple[str | None, str]]:
        """Samples whose bucket is another than the manifest says."""
        for key, digit in zip(keys, self._digits or "", strict=False):
            found = self._found_digits.get(name := f"{key}{_SIZE}", digit)
            if found != digit:
                yield name, f"its bucket is {found!r}, and the manifest says {digit!r}"

    def _check_finite(self, array: npt.NDArray[Any]) -> None:
        if not is_finite(array, bfloat16=self._column.dtype == "bfloat16"):
            raise ValueError("it holds NaN or infinity")
