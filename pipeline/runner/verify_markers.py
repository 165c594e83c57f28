"""Every file that the ledger of a stage vouches for, against the hash in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build
from surd.pipeline.build.ledger import LEDGER
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.dataset.verify.dataset import Checked, Finding
from surd.pipeline.stages import STAGES, Stage


def verify_stages(build: Build) -> Iterator[Checked]:
    """Every file that a stage's ledger vouches for, against the hash in it: rows, fetched bytes, miniatures."""
    if build.exists("build.json"):
        yield _check_record(build)
    for stage in STAGES:
        if build.is_file(stage.name):
            yield Checked(stage.name, 0, [Finding(stage.name, None, "it is a file where a folder belongs")])
        if stage.name not in ("pack", "embed"):
            yield from _verify_stage(build, stage)


def _verify_stage(build: Build, stage: Stage) -> Iterator[Checked]:
    try:
        ledger = build.ledger(stage.name)
    except DamagedFile as damage:
        yield Checked(damage.file, 0, [Finding(damage.file, None, f"it {damage.why}")])
        return
    for file in ledger.damaged:
        yield Checked(file, 0, [Finding(file, None, "it cannot be read; its unit counts as not done")])
    for unit in ledger.units():
        marker = ledger.recorded(unit)
        assert marker is not None, "it is one of its units"
        parts = sum(output.endswith(".parquet") for output in marker.outputs)
        if stage.scope == "source" and parts != marker.parts:
            file = f"{stage.name}/{LEDGER}"
            yield Checked(file, 0, [Finding(file, None, f"it says {marker.parts:,} parts and lists {parts:,}")])
        for output, sha256 in marker.outputs.items():
            yield _check_hash(build, output, sha256)


def _check_record(build: Build) -> Checked:
    try:
        recorded_config(*open_build(build.root))
    except DamagedFile as damage:
        return Checked(damage.file, 0, [Finding(damage.file, None, f"it {damage.why}")])
    return Checked("build.json", build.size("build.json"))


def _check_hash(build: Build, file: str, sha256: str) -> Checked:
    try:
        with reading(build, file), build.open(file) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
    except DamagedFile as damage:
        return Checked(file, 0, [Finding(file, None, f"it {damage.why}")])
    faults = [] if digest == sha256 else [Finding(file, None, f"its sha256 is {digest[:16]}..., not {sha256[:16]}...")]
    return Checked(file, build.size(file), faults)
