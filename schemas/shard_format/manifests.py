"""Manifests of shards and columns, read strictly, and the names and dtypes that the format knows."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from surd.schemas.manifest import ColumnManifest, ShardManifest

M = TypeVar("M", bound=BaseModel)
TAR_NAME = re.compile(r"[\w-]+\.tar")  # of a tar that a manifest lists: it cannot lead out of its folder
IMAGE_SUFFIXES = ("png", "jpg", "webp")
#: How NumPy stores a column's dtype; it does not know bfloat16, whose bits are stored instead.
STORED_DTYPES = {"float16": "<f2", "float32": "<f4", "bfloat16": "<u2"}
MASK_DTYPE, SIZE_DTYPE = "|u1", "<i4"


class InvalidManifest(ValueError):
    """The bytes are not a valid manifest; ``field`` is the dotted path of what is wrong, or None."""

    def __init__(self, field: str | None, problem: str) -> None:
        super().__init__(problem if field is None else f"{field}: {problem}")
        self.field, self.problem = field, problem


def parse_manifest(data: bytes, model: type[M]) -> M:
    """A ShardManifest or ColumnManifest (or another document of a build) from its JSON. Raises InvalidManifest.

    Whether the tars it lists have names that stay in their folder is asked separately: see ``odd_tar_name``.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or None
        raise InvalidManifest(field, first["msg"]) from None


def odd_tar_name(manifest: ShardManifest | ColumnManifest) -> str | None:
    """The first listed name that is not a valid tar name; None if all are."""
    tars = manifest.shards if isinstance(manifest, ShardManifest) else manifest.tars
    return next((tar.name for tar in tars if not TAR_NAME.fullmatch(tar.name)), None)
