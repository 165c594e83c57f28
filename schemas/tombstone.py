"""What ``forgotten.jsonl`` holds of a record, an author or a host that was removed for good: hashes, no content."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_SALTED = "sha256 of the file's salt and"


class Tombstone(BaseModel):
    """One line of ``forgotten.jsonl``. A record that meets any of its hashes is not collected or fetched again."""

    model_config = ConfigDict(extra="forbid")
    key: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$", description="Of the removed record.")
    url: str | None = Field(default=None, description=f"{_SALTED} its URL without secrets.")
    page: str | None = Field(default=None, description=f"{_SALTED} the page of which every record is removed.")
    author: str | None = Field(default=None, description=f"{_SALTED} the author of whom every record is removed.")
    host: str | None = Field(default=None, description=f"{_SALTED} the host of which every record is removed.")
    pictures: list[str] = Field(default=[], description="sha256 of the picture's bytes, as kept and as fetched.")
    copy_of: str | None = Field(default=None, description="Key of the record that it was removed with, as its copy.")
    when: str = Field(description="Date and time, UTC.")
    why: str | None = Field(default=None, description="The reason that was given with --reason.")
