"""Every schema of the project as JSON Schema files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from surd.schemas.config import CONFIG_VERSION, BuildConfig
from surd.schemas.decision import Decision
from surd.schemas.manifest import (
    FORMAT_VERSION,
    BuildRecord,
    Calibration,
    ColumnManifest,
    Marker,
    SelectionRule,
    ShardManifest,
)
from surd.schemas.reason import Reason
from surd.schemas.records import (
    RECORD_SCHEMA_VERSION,
    Caption,
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Pair,
    Rewritten,
    Safe,
    Sample,
    Scored,
    Selected,
    SourceRecord,
)
from surd.schemas.tombstone import Tombstone

ROWS: tuple[type[BaseModel], ...] = (
    SourceRecord,
    Pair,
    Decoded,
    Cleaned,
    Deduped,
    Safe,
    Scored,
    Captioned,
    Rewritten,
    Corrected,
    Selected,
    Sample,
    Caption,
)
DOCUMENTS: tuple[type[BaseModel], ...] = (
    BuildConfig,
    BuildRecord,
    ShardManifest,
    ColumnManifest,
    Calibration,
    SelectionRule,
    Marker,
    Tombstone,
    Decision,
)


_VERSIONS = {BuildConfig.__name__: CONFIG_VERSION} | {model.__name__: FORMAT_VERSION for model in DOCUMENTS[1:]}


def _version(name: str) -> int:
    return _VERSIONS.get(name, RECORD_SCHEMA_VERSION)


def write_json_schemas(folder: Path) -> list[Path]:
    """Write one ``<Name>.schema.json`` per model and one for the Reason enum; return their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    schemas = {model.__name__: model.model_json_schema() for model in (*ROWS, *DOCUMENTS)}
    schemas["Reason"] = TypeAdapter(Reason).json_schema() | {
        "title": "Reason",
        "x-meaning": {reason.value: reason.meaning for reason in Reason},
    }
    for name, schema in schemas.items():
        document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "x-version": _version(name), **schema}
        (folder / f"{name}.schema.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return sorted(folder / f"{name}.schema.json" for name in schemas)
