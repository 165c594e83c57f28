"""What a record, a shard, a build and a config are. This room imports nothing of the project."""

from surd.schemas.arrow import arrow_schema, from_table, to_table
from surd.schemas.config import BuildConfig
from surd.schemas.config.load import load_config, read_profile
from surd.schemas.decision import Decision
from surd.schemas.errors import SurdError
from surd.schemas.manifest import (
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
from surd.schemas.model_ref import resolve_model
from surd.schemas.reason import Reason, Status
from surd.schemas.records import (
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
)
from surd.schemas.tombstone import Tombstone

__all__ = [
    "BuildConfig",
    "BuildRecord",
    "Calibration",
    "Captioned",
    "Cleaned",
    "ColumnManifest",
    "Corrected",
    "Decision",
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
    "Tombstone",
    "arrow_schema",
    "from_table",
    "load_config",
    "read_profile",
    "resolve_model",
    "to_table",
]
