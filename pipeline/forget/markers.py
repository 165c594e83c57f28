"""Completion markers of stages whose files were rewritten: the new sha256, and nothing that has to be redone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.build.ledger import recorded
from surd.pipeline.build.rewritten import note_rewritten
from surd.schemas import Marker


def mark_rewritten(
    build: Build,
    stage: str,
    unit: int,
    now: Mapping[str, str],
    change: Callable[[Marker], Mapping[str, object]] = lambda marker: {},
) -> None:
    """Give the marker of a unit the sha256 that its files have ``now``; the stages that read them count them as
    unchanged.

    ``change``: further fields of the marker. What counts as what is written first: a kill between the two leaves a
    marker that the same call finishes.
    """
    marker = recorded(build, stage, unit)
    if marker is None:
        return
    outputs = {file: now.get(file, sha256) for file, sha256 in marker.outputs.items()}
    changed = [file for file, sha256 in outputs.items() if sha256 != marker.outputs[file]]
    sizes = marker.sizes | {file: build.size(file) for file in changed}
    fresh = marker.model_copy(update={"outputs": outputs, "sizes": sizes, **change(marker)})
    if fresh == marker:
        return
    note_rewritten(build, {sha256: marker.outputs[file] for file, sha256 in outputs.items()})
    build.write_marker(fresh)


def hashes(build: Build, files: Iterable[str]) -> dict[str, str]:
    """sha256 of those of ``files`` that are there."""
    return {file: _sha256(build, file) for file in files if build.exists(file)}


def _sha256(build: Build, file: str) -> str:
    with reading(build, file), build.open(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
