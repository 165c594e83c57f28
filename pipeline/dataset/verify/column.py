"""Turns the members of a column's tar, as they come, into what is wrong with its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from surd.schemas import ColumnManifest
from surd.schemas.shard_format.npy import is_finite, read_npy
from surd.schemas.shard_format.tar import TarMember

_STORED = {"float16": "<f2", "float32": "<f4", "bfloat16": "<u2"}
_MASK, _POOLED = ".mask.npy", ".pooled.npy"


class ArrayRule:
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
                self._check_mask(member)
            elif member.name.endswith(_POOLED):
                self._check_numbers(member, [self._column.pooled])
            elif member.name.endswith(".npy"):
                self._check_array(member)
            else:
                yield member.name, "it is no file that a column has"
        except ValueError as error:
            yield member.name, str(error)

    def end(self) -> tuple[list[str], list[tuple[str | None, str]]]:
        """The keys in their order, and where the members are not those that the shard's keys ask for."""
        keys = [name.removesuffix(".npy") for name in self._names if not name.endswith((_MASK, _POOLED))]
        suffixes = [".npy", *[_MASK] * self._column.mask, *[_POOLED] * (self._column.pooled is not None)]
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

    def _check_array(self, member: TarMember) -> None:
        shape = self._column.shape or (
            [None, self._column.width] if self._column.pooling == "tokens" else [self._column.width]
        )
        self._tokens = self._check_numbers(member, shape)

    def _check_numbers(self, member: TarMember, shape: list[int | None]) -> int:
        """Its first length. Raises ValueError when it is not of the manifest's dtype and shape, or holds NaN."""
        array, dtype = read_npy(member.data), self._column.dtype
        if array.dtype.str != _STORED[dtype]:
            raise ValueError(f"its dtype is {array.dtype.str}, and {dtype} is stored as {_STORED[dtype]}")
        if len(array.shape) != len(shape) or any(
            want not in (None, has) for has, want in zip(array.shape, shape, strict=True)
        ):
            raise ValueError(f"its shape is {list(array.shape)}, its manifest says {_shown(shape)}")
        if not is_finite(array, bfloat16=dtype == "bfloat16"):
            raise ValueError("it holds NaN or infinity")
        return int(array.shape[0])

    def _check_mask(self, member: TarMember) -> None:
        array = read_npy(member.data)
        if array.dtype.str != "|u1" or array.shape != (self._tokens,) or int(array.max()) > 1:
            raise ValueError(f"it is no mask: uint8 [{self._tokens}] of 0 and 1")


def _shown(shape: list[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
