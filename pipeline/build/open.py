"""Opening a build that exists, with the record of what it was made with."""

from __future__ import annotations

from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build
from surd.schemas import BuildConfig, BuildRecord, SurdError, load_config


def open_build(root: str) -> tuple[Build, BuildRecord]:
    """A build and its record. Raises SurdError if ``root`` holds no build or its record cannot be read."""
    build = Build(root)
    if not build.exists("build.json"):
        raise SurdError(f"build is {root!r} and holds no build.json; give the folder that `surd build --out` made")
    with reading(build, "build.json"):
        return build, BuildRecord.model_validate_json(build.read_bytes("build.json"))


def recorded_config(build: Build, record: BuildRecord) -> BuildConfig:
    """The config in a build's record. Raises SurdError where it is not valid, or of a later version."""
    try:
        return load_config(record.config)
    except SurdError as error:
        raise DamagedFile(build, "build.json", f"is not a valid record of a build ({error})") from None
