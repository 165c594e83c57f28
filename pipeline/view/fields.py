"""The fields that the viewer shows, searches and counts, by the names a person types.

The columns that every page needs are in one table, made when the viewer starts. All others stay in the Parquet files of
their stages and are read from there when a search names them: 50,000 rows are ready in half the time so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from surd.pipeline.report.records import READS
from surd.schemas import Row, Safe, Scored, SurdError
from surd.schemas.arrow import arrow_schema

Kind = Literal["name", "text", "number", "list", "yes"]

_MODELS: dict[str, type[BaseModel]] = {**READS, "safety": Safe, "score": Scored}
#: Stage -> its rows, in the order data meets them.
ROWS: dict[str, type[BaseModel]] = {
    name: _MODELS[name]
    for name in (
        "collect", "fetch", "decode", "clean", "dedup", "safety", "score", "caption", "rewrite", "correct", "select",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field. ``expression`` is SQL over ``relation``: ``record``, ``decision``, ``beside``, or a stage's rows.

    ``name`` fields have few values, which are counted beside the grid; ``text`` is prose.
    """

    name: str
    kind: Kind
    title: str
    expression: str
    relation: str = "record"
    also: tuple[str, ...] = ()


def _of_record(kind: Kind, *named: tuple[str, str, tuple[str, ...]]) -> list[Field]:
    return [Field(name, kind, title, f'"{name}"', also=also) for name, title, also in named]


FIELDS: tuple[Field, ...] = (
    *_of_record(
        "name",
        ("status", "kept, rejected or pending", ()),
        ("reason", "why it was rejected", ()),
        ("stage", "the stage that rejected it", ("rejected_by",)),
        ("reached", "the last stage that has it", ()),
        ("source", "where it was collected", ()),
        ("host", "the site of its picture", ()),
        ("author", "author", ()),
        ("licence", "licence", ("license",)),
        ("tool", "the program that wrote the file", ()),
        ("ext", "kind of file", ()),
        ("language", "language of the prompt", ("lang",)),
        ("method", "where the simple sentence came from", ()),
        ("correction", "what correction did: keep, repair or reject", ()),
        ("bucket", "training bucket nearest to its aspect", ()),
        ("cluster", "the record that stands for its image cluster", ()),
        ("prompt_cluster", "the record that stands for its prompt cluster", ()),
        ("like", "the record that stands for its semantic cluster", ("semantic_cluster",)),
        ("key", "key", ()),
    ),
    *_of_record(
        "number",
        ("score.simple", "cosine of image and simple sentence", ("clip_simple",)),
        ("score.complex", "cosine of image and complex prompt", ("clip_complex",)),
        ("gain", "score of simple minus score of complex", ()),
        ("width", "width in pixels", ()),
        ("height", "height in pixels", ()),
        ("short", "shorter side in pixels", ()),
        ("aspect", "width over height", ()),
        ("size", "bytes of the file", ("bytes",)),
        ("tokens", "CLIP tokens of the complex prompt", ("clip_tokens",)),
        ("words", "words of the simple sentence", ()),
        ("distance", "hash distance to its twin", ()),
        ("nsfw", "probability that the image is not work-safe", ("nsfw_image",)),
        ("sharpness", "variance of the Laplacian", ()),
        ("brisque", "0 good, 100 bad", ()),
        ("clip_iqa", "0 bad, 1 good", ()),
        ("colourfulness", "0 grey, 109 extreme", ()),
        ("entropy", "bits of the luminance, 0 to 8", ()),
        ("text_area", "share of the picture that is text", ()),
        ("watermark", "probability of a watermark", ()),
        ("aesthetic", "1 to 10", ()),
        ("repairs", "facts that were repaired", ()),
    ),
    *_of_record(
        "text",
        ("simple", "simple sentence", ()),
        ("complex", "complex prompt, cleaned", ()),
        ("prompt", "prompt as it was found", ()),
        ("detail", "the stage's own words on it", ()),
        ("url", "address of the picture", ()),
    ),
    Field("veiled", "yes", "whether its picture is not sent until asked for", '"veiled"'),
    Field("picture", "yes", "whether it has a picture that decodes", '"picture"'),
    Field("decision", "name", "what you decided", "verdict", "decision"),
    Field("decided", "text", "your reason", "reason", "decision"),
    Field("edited", "text", "your sentence", "simple", "decision"),
    Field("beside.status", "name", "kept or rejected in the other build", "status", "beside"),
    Field("beside.reason", "name", "why the other build rejected it", "reason", "beside"),
    Field("beside.changed", "yes", "whether its simple sentence differs in the other build", "changed", "beside"),
    Field("beside.simple", "text", "simple sentence of the other build", "simple", "beside"),
)
#: What is counted beside the grid, in this order.
FACETS = (
    "status", "reason", "decision", "stage", "method", "correction", "licence", "author", "host", "source", "tool",
    "bucket", "language", "ext",
)  # fmt: skip
_COMMON = set(Row.model_fields)


def _kind(arrow: str) -> Kind:
    if arrow.startswith("list"):
        return "list"
    return "yes" if arrow == "bool" else "text" if arrow == "string" else "number"


def _of_stages() -> list[Field]:
    """Every other column of every stage as ``stage.column``; embeddings are not for people."""
    found = []
    for stage, model in ROWS.items():
        for column in arrow_schema(model):
            if column.name in _COMMON or "embedding" in column.name:
                continue
            described = model.model_fields[column.name].description or column.name.replace("_", " ")
            found.append(Field(f"{stage}.{column.name}", _kind(str(column.type)), described, f'"{column.name}"', stage))
    return found


STORED: tuple[Field, ...] = tuple(_of_stages())


def _by_name() -> dict[str, tuple[Field, ...]]:
    names: dict[str, tuple[Field, ...]] = {}
    for field in STORED:
        names[field.name] = (field,)
        short = field.name.partition(".")[2]
        names[short] = (*names.get(short, ()), field)
    for field in FIELDS:
        names |= dict.fromkeys((field.name, *field.also), (field,))
    return names


_NAMES = _by_name()


def is_field(name: str) -> bool:
    return name.lower() in _NAMES


def fields_of(name: str) -> tuple[Field, ...]:
    """The fields that a name means: more than one where several stages have a column of it. Raises SurdError."""
    try:
        return _NAMES[name.lower()]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), _NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else "press ? for the list"
        raise SurdError(f"{name!r} is not a field; {hint}") from None
