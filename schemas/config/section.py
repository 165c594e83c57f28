"""The base of all config sections: known fields, checked; no others."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the config."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
