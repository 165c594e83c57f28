"""Where a reduce, or a question about a build, has its tables."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from surd.pipeline.build.folder import Build
from surd.pipeline.tables import Tables

FOLDER = ".scratch"


@contextmanager
def temporary(name: str) -> Iterator[Tables]:
    """Tables in a folder of this machine, removed after the block."""
    with tempfile.TemporaryDirectory(prefix=f"surd-{name}-") as folder, Tables(Path(folder)) as tables:
        yield tables


@contextmanager
def scratch(build: Build, stage: str) -> Iterator[Tables]:
    """Tables in a folder inside the build, or of this machine where the build is elsewhere; removed after the block.

    What a killed run of the stage left there is removed first.
    """
    above = build.local_path(FOLDER)
    if above is None:
        with temporary(stage) as tables:
            yield tables
        return
    folder = f"{FOLDER}/{stage}"
    build.remove(folder)
    (above / stage).mkdir(parents=True)
    try:
        with Tables(above / stage) as tables:
            yield tables
    finally:
        build.remove(folder)
        with suppress(OSError):  # another stage's is there
            above.rmdir()
