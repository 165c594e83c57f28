"""Which sample of a column of latents is in which aspect-ratio bucket, as its manifest lists them for a loader.

A loader orders whole epochs by bucket, and could not do so if it had to open every tar first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from surd.pipeline.build.damage import remedy
from surd.pipeline.build.folder import Build
from surd.schemas import ColumnManifest, ShardInfo, SurdError
from surd.schemas.manifest import Buckets
from surd.schemas.shard_format.columns import SIZE, check_size
from surd.schemas.shard_format.npy import read_npy
from surd.schemas.shard_format.tar import InvalidTar, TarReader

if TYPE_CHECKING:
    from surd.pipeline.models.diffusion import DiffusionEncoders


def describe_buckets(
    build: Build, folder: str, tars: Sequence[ShardInfo], before: ColumnManifest | None, encoders: DiffusionEncoders
) -> Buckets:
    """The buckets of a finished column. Of tars that ``before`` lists with the same hash, it is asked; the others are
    read from end to end. Raises SurdError if one of those is not valid."""
    known: Mapping[str, str] = {}
    if before and before.buckets and before.buckets.sizes == encoders.buckets:
        known = {info.sha256: digits for info, digits in zip(before.shards, before.buckets.numbers, strict=True)}
    buckets = Buckets(sizes=encoders.buckets, scale=encoders.scale, numbers=[])
    for tar in tars:
        digits = known.get(tar.sha256)
        if digits is None:
            digits = bucket_digits(build, f"{folder}/{tar.name}", buckets)
        buckets.numbers.append(digits)
    return buckets


def bucket_digits(build: Build, file: str, buckets: Buckets) -> str:
    """The buckets of a tar's samples, a character each. Raises SurdError if the tar is not valid."""
    digits: list[str] = []
    latents: npt.NDArray[Any] | None = None
    try:
        with build.open(file) as raw:
            for member in TarReader(raw, build.size(file)):
                array = read_npy(member.data)
                if not member.name.endswith(f".{SIZE}"):
                    latents = array
                elif latents is not None:
                    digits.append(check_size(array, latents, buckets))
    except (InvalidTar, ValueError) as error:
        raise SurdError(f"{build.path(file)} is damaged ({error}); {remedy(build, file)}") from None
    return "".join(digits)
