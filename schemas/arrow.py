"""Arrow schemas of the row models, and rows to and from Arrow tables."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from surd.schemas.records import RECORD_SCHEMA_VERSION, Row

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
    """Rows of one model as an Arrow table with that model's schema, less the columns ``only_if_measured`` that no row
    has a value of."""
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=arrow_schema(model))
    return table.drop_columns([name for name in _only_if_measured(model) if table[name].null_count == len(table)])


def complete(model: type[BaseModel], table: pa.Table) -> pa.Table:
    """A table that was read, with the model's schema; its columns ``only_if_measured`` are null where it lacks them.

    Raises ValueError when it has other columns, or of other types.
    """
    schema = arrow_schema(model)
    for name in _only_if_measured(model):
        if name not in table.column_names:
            column = pa.nulls(len(table), schema.field(name).type)
            table = table.add_column(min(schema.get_field_index(name), table.num_columns), schema.field(name), column)
    return table.cast(schema)


def _only_if_measured(model: type[BaseModel]) -> tuple[str, ...]:
    return model.only_if_measured if issubclass(model, Row) else ()


def from_table(model: type[M], table: pa.Table) -> list[M]:
    """An Arrow table as validated rows of ``model``. Raises pydantic.ValidationError on a row that breaks it."""
    return [model.model_validate(row) for row in table.to_pylist()]
