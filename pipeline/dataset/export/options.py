"""What may be chosen of a trainer's export, and the record of it that lies in the folder."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from surd.pipeline.build.folder import Build
from surd.schemas import SurdError

RECORD = "export.json"
IMAGES, CACHE = "images", "cache"


class TrainerOptions(BaseModel):
    """The captions of an export and what its config tells the trainer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    caption: str = Field(
        default="simple", min_length=1, description="simple, complex, both, mixed (all there are), or a caption's name."
    )
    trigger: str | None = Field(default=None, description="Words that every caption begins with.")
    resolution: int = Field(default=1024, ge=64, le=8192, description="Side of the square of as many pixels.")
    root: str | None = Field(default=None, min_length=1, description="Where the trainer finds the folder.")

    @field_validator("trigger", "root")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError("give one line of printable text")
        return value

    @classmethod
    def given(cls, **values: object) -> TrainerOptions:
        """Those that are not None. Raises SurdError naming the flag that is not valid."""
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            flag = str(first["loc"][0])
            problem = first["msg"].removeprefix("Value error, ")
            raise SurdError(f"--{flag} is {first['input']!r}: {problem}") from None


class ExportRecord(BaseModel):
    """``export.json``: which export a folder holds, so that it can be made again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    layout: str
    options: TrainerOptions
    samples: int = Field(ge=0)
    files: list[str] = Field(description="What lies in the folder beside this record.")


def read_record(out: Build) -> ExportRecord | None:
    """The record of a folder; None if it has no valid one."""
    try:
        return ExportRecord.model_validate_json(out.read_bytes(RECORD))
    except (FileNotFoundError, IsADirectoryError, ValidationError):
        return None
