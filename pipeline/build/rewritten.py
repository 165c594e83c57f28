"""Files of stages that were rewritten without some records, and the content that they go on to stand for.

A stage is redone when the sha256 of what it reads has changed. Where ``surd forget`` takes a record out of a file,
nothing that follows from the file has to be redone: all of it was rewritten likewise. So ``rewritten.json`` says by
which sha256 the file counts as an input: the one it had before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build

REWRITTEN = "rewritten.json"


def read_rewritten(build: Build) -> dict[str, str]:
    """sha256 of a rewritten file -> sha256 that it counts as."""
    with reading(build, REWRITTEN):
        try:
            document = json.loads(build.read_bytes(REWRITTEN))
        except FileNotFoundError:
            return {}
        return {str(now): str(before) for now, before in document.items()}


def note_rewritten(build: Build, changed: Mapping[str, str]) -> None:
    """Add files that were rewritten, as sha256 now -> sha256 before."""
    known = read_rewritten(build)
    added = {now: known.get(before, before) for now, before in changed.items() if now != before}
    if added.items() - known.items():
        build.write_json(REWRITTEN, known | added)
