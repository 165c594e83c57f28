"""``.npy`` files of the shard format: plain numbers in C order, NPY version 1.0."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_MOST_DIMENSIONS, _MOST = 32, 1 << 40  # numbers along one: a header can claim so many that they cannot be printed
_MAGIC = b"\x93NUMPY\x01\x00"


def write_npy(file: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Write an array the way ``read_npy`` reads it."""
    np.lib.format.write_array(file, np.ascontiguousarray(array), (1, 0), allow_pickle=False)


def read_npy(data: bytes) -> npt.NDArray[Any]:
    """The array, a read-only view of ``data``. Raises ValueError if it is not NPY 1.0, not numbers, or incomplete.

    What the header claims is compared with the bytes at hand before anything is allocated; nothing is unpickled.
    """
    if data[:8] != _MAGIC:
        raise ValueError("it is not an .npy file of version 1.0")
    end = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype = _header(data[8:end])
    if len(shape) > _MOST_DIMENSIONS or any(not 0 <= length <= _MOST for length in shape):
        lengths = ", ".join(str(length) if abs(length) <= _MOST else "..." for length in shape[:8])
        raise ValueError(f"its shape is [{lengths}], which is not possible")
    if 0 in shape:
        raise ValueError(f"it is empty: {list(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        claimed = f"{math.prod(shape):,} numbers of {dtype}"
        raise ValueError(f"its header claims {claimed} and {len(data) - end:,} bytes follow")
    return np.frombuffer(data, dtype, offset=end).reshape(shape)


def is_finite(array: npt.NDArray[Any], *, bfloat16: bool = False) -> bool:
    """Whether no number is NaN or infinite; ``bfloat16``: the uint16 are bits of those."""
    if bfloat16:
        return not bool(((array & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(array).all())


@lru_cache(maxsize=1024)  # the arrays of a column have a handful of headers
def _header(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except Exception as error:  # NumPy on a damaged header raises ValueError, TypeError, SyntaxError, TokenError ...
        raise ValueError(f"its header cannot be read ({' '.join(str(error).split())[:200]})") from None
    if dtype.hasobject:
        raise ValueError("it asks for pickle, which can run code")
    if fortran and len(shape) > 1:
        raise ValueError("its numbers are in Fortran order")
    return tuple(map(int, shape)), dtype
