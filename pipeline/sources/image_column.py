"""Which column of a parquet file holds the pictures."""

from __future__ import annotations

import re

import pyarrow as pa

from surd.pipeline.sources.column_names import IMAGE_NAMES, likeliest, listed, one_of
from surd.schemas import SurdError

# Words of names under which a picture is what another was made from, or only a part of it.
_ODD = re.compile(
    r"(?:^|_)(?:mask|masked|condition|conditioning|control|controlnet|depth|canny|edges?|pose|openpose|normal|seg|"
    r"segmentation|scribble|sketch|lineart|hed|original|orig|source|src|input|init|edited|edit|before|after|reference|"
    r"ref|target|output|agnostic|cloth|garment|alpha|background|thumbnail|thumb|preview|latents?)(?:_|$)"
)


def image_column(schema: pa.Schema, configured: str | None, where: str) -> str | None:
    """The column that is configured, else the only one of pictures, else the one with the likeliest name.

    Those are structs ``{"bytes", "path"}`` and bytes with a usual name. None if there is none. Raises SurdError, which
    lists the columns, if it is not clear which of several is meant, or the only one is called a mask or the like.
    """
    if configured is not None:
        if configured not in schema.names:
            why = f"{where} has no such column; it has: {listed(schema.names)}"
            raise SurdError(f"config field 'urls.image_column' is {configured!r} and {why}")
        return configured
    structs = [field.name for field in schema if _is_picture(field.type)]
    binary = [field.name for field in schema if _is_bytes(field.type)]
    pictures = structs or [name for group in IMAGE_NAMES for name in likeliest(binary, (group,))] or _paths(schema)
    if usual := likeliest(pictures, IMAGE_NAMES):
        return one_of(usual, schema.names, where, "urls.image_column", "the pictures")
    if len(pictures) == 1 and not _ODD.search(re.sub(r"[\W_]+", "_", pictures[0].lower())):
        return pictures[0]
    if pictures:
        raise SurdError(
            f"{where} holds pictures in {listed(pictures)}, and it is not clear which of them the prompts describe; "
            f"name it in urls.image_column (its columns: {listed(schema.names)})"
        )
    return None


def _is_picture(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _paths(schema: pa.Schema) -> list[str]:
    """Columns of text that hold the paths of pictures, by their usual names."""
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    return likeliest(texts, (("filename",), ("imagefilename",), ("imagepath",), ("filepath",)))
