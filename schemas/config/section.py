"""What every section of the config is: fields that are known and checked, and no others."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the config."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
