"""What a record, a shard, a build and a config are. This room imports nothing of the project."""

from schemas.config import BuildConfig, load_config, read_profile
from schemas.errors import SurdError
from schemas.manifest import BuildRecord, ColumnManifest, Marker, ShardInfo, ShardManifest
from schemas.model_ref import resolve_model
from schemas.reason import Reason, Status
from schemas.records import (
    Captioned,
    Cleaned,
    Corrected,
    Deduped,
    Pair,
    Rewritten,
    Row,
    Sample,
    Scored,
    Selected,
    SourceRecord,
    arrow_schema,
    from_table,
    to_table,
)

__all__ = [
    "BuildConfig",
    "BuildRecord",
    "Captioned",
    "Cleaned",
    "ColumnManifest",
    "Corrected",
    "Deduped",
    "Marker",
    "Pair",
    "Reason",
    "Rewritten",
    "Row",
    "Sample",
    "Scored",
    "Selected",
    "ShardInfo",
    "ShardManifest",
    "SourceRecord",
    "Status",
    "SurdError",
    "arrow_schema",
    "from_table",
    "load_config",
    "read_profile",
    "resolve_model",
    "to_table",
]
