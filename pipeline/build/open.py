"""Opening a build that exists, with the record of what it was made with."""

from __future__ import annotations

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.schemas import BuildRecord, SurdError


def open_build(root: str) -> tuple[Build, BuildRecord]:
    """A build and its record. Raises SurdError if ``root`` holds no build or its record cannot be read."""
    build = Build(root)
    if not build.exists("build.json"):
        raise SurdError(f"build is {root!r} and holds no build.json; give the folder that `surd build --out` made")
    try:
        return build, BuildRecord.model_validate_json(build.read_bytes("build.json"))
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise SurdError(f"{build.path('build.json')} cannot be read ({why}); run the same surd build again") from None
