"""Every schema of the project as JSON Schema files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from schemas.config import BuildConfig
from schemas.manifest import BuildRecord, ColumnManifest, Marker, ShardManifest
from schemas.reason import Reason
from schemas.records import (
    Captioned,
    Cleaned,
    Corrected,
    Deduped,
    Pair,
    Rewritten,
    Sample,
    Scored,
    Selected,
    SourceRecord,
)

ROWS: tuple[type[BaseModel], ...] = (
    SourceRecord,
    Pair,
    Cleaned,
    Deduped,
    Scored,
    Captioned,
    Rewritten,
    Corrected,
    Selected,
    Sample,
)
DOCUMENTS: tuple[type[BaseModel], ...] = (BuildConfig, BuildRecord, ShardManifest, ColumnManifest, Marker)


def write_json_schemas(folder: Path) -> list[Path]:
    """Write one ``<Name>.schema.json`` per model and one for the Reason enum; return their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    schemas = {model.__name__: model.model_json_schema() for model in (*ROWS, *DOCUMENTS)}
    schemas["Reason"] = TypeAdapter(Reason).json_schema() | {
        "title": "Reason",
        "x-meaning": {reason.value: reason.meaning for reason in Reason},
    }
    for name, schema in schemas.items():
        document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        (folder / f"{name}.schema.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return sorted(folder / f"{name}.schema.json" for name in schemas)
