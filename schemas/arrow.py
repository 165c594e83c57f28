"""Arrow schemas of the row models, and rows to and from Arrow tables."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from surd.schemas.records import RECORD_SCHEMA_VERSION

M = TypeVar("M", bound=BaseModel)
_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),  # before int, of which it is a kind
    int: pa.int64(),
    float: pa.float64(),
}


def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a flat pydantic model; its metadata carries the model's name and version."""
    fields = [pa.field(name, *_arrow_type(info.annotation, info.metadata)) for name, info in model.model_fields.items()]
    return pa.schema(fields, metadata={"surd.model": model.__name__, "surd.version": str(RECORD_SCHEMA_VERSION)})


def _arrow_type(annotation: Any, metadata: Iterable[Any] = ()) -> tuple[pa.DataType, bool]:
    for item in metadata:
        if isinstance(item, pa.DataType):
            return item, False
    origin = get_origin(annotation)
    if origin is Annotated:
        return _arrow_type(get_args(annotation)[0], get_args(annotation)[1:])
    if origin in (Union, types.UnionType):
        (inner,) = [arg for arg in get_args(annotation) if arg is not type(None)]
        return _arrow_type(inner)[0], True
    if origin is list:
        return pa.list_(_arrow_type(get_args(annotation)[0])[0]), False
    for base, arrow in _ARROW_TYPES.items():
        if isinstance(annotation, type) and issubclass(annotation, base):
            return arrow, False
    raise TypeError(f"no Arrow type for {annotation!r}")


def to_table(model: type[BaseModel], rows: Iterable[BaseModel]) -> pa.Table:
    """Rows of one model as an Arrow table with that model's schema."""
    return pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=arrow_schema(model))


def from_table(model: type[M], table: pa.Table) -> list[M]:
    """An Arrow table as validated rows of ``model``. Raises pydantic.ValidationError on a row that breaks it."""
    return [model.model_validate(row) for row in table.to_pylist()]
