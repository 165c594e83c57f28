"""Stored arrays of columns as float32 tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from surd.schemas.shard_format.manifests import STORED_DTYPES

_BFLOAT16 = np.dtype(STORED_DTYPES["bfloat16"])


def to_float(array: npt.NDArray[Any]) -> Tensor:
    """float32 of stored numbers, bfloat16 bits among them. ``array`` must be writable, as torch wants it."""
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array).view(torch.bfloat16).float()
    return torch.from_numpy(array).float()
