"""Every file that a stage's completion marker vouches for, against the hash in the marker."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import Checked, Finding
from surd.pipeline.stages import STAGES

_MARKER = re.compile(r"part-\d{5}\.done\.json")


def verify_stages(build: Build) -> Iterator[Checked]:
    """Every file that a stage's marker vouches for, against the hash in it: rows, fetched bytes, miniatures."""
    for stage in STAGES:
        for name in build.listdir(stage.name):
            if not _MARKER.fullmatch(name) or stage.name in ("pack", "embed"):
                continue
            marker = build.marker(stage.name, int(name[5:10]))
            if marker is None:
                yield Checked(
                    f"{stage.name}/{name}",
                    0,
                    [Finding(f"{stage.name}/{name}", None, "it cannot be read, or a file that it vouches for is gone")],
                )
                continue
            for output, sha256 in marker.outputs.items():
                yield _check_hash(build, output, sha256)


def _check_hash(build: Build, file: str, sha256: str) -> Checked:
    with build.open(file) as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
    faults = [] if digest == sha256 else [Finding(file, None, f"its sha256 is {digest[:16]}..., not {sha256[:16]}...")]
    return Checked(file, build.size(file), faults)
