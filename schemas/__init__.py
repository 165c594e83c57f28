"""What a record, a shard, a build and a config are. This room imports nothing of the project."""

from schemas.config import BuildConfig
from schemas.errors import SurdError
from schemas.load_config import load_config, read_profile
from schemas.manifest import (
    BuildRecord,
    Calibration,
    ColumnManifest,
    Marker,
    SelectionRule,
    ShardInfo,
    ShardManifest,
    ShuffledScores,
    Threshold,
)
from schemas.model_ref import resolve_model
from schemas.reason import Reason, Status
from schemas.records import (
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Pair,
    Rewritten,
    Row,
    Safe,
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
    "Calibration",
    "Captioned",
    "Cleaned",
    "ColumnManifest",
    "Corrected",
    "Decoded",
    "Deduped",
    "Marker",
    "Pair",
    "Reason",
    "Rewritten",
    "Row",
    "Safe",
    "Sample",
    "Scored",
    "Selected",
    "SelectionRule",
    "ShardInfo",
    "ShardManifest",
    "ShuffledScores",
    "SourceRecord",
    "Status",
    "SurdError",
    "Threshold",
    "arrow_schema",
    "from_table",
    "load_config",
    "read_profile",
    "resolve_model",
    "to_table",
]
