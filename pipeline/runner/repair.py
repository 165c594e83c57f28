"""Repair of broken files: shards from the fetched bytes, columns by their models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from surd.pipeline.build.damage import blaming_damage
from surd.pipeline.build.folder import Build, HashingFile
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.dataset.columns.spec import ColumnSpec, columns_asked, columns_present, marker_folder, shard_manifest
from surd.pipeline.dataset.columns.write import describe_column, write_column_shards
from surd.pipeline.dataset.shards import describe_shards, planned_shards, write_samples
from surd.pipeline.dataset.verify.dataset import INDEX, SHARD_MANIFEST, Finding
from surd.pipeline.models import Models
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, ShardInfo, SurdError
from surd.schemas.manifest import EMPTY_PROMPT_TAR

_NO_STAGES = "only the dataset is here, not its stages; get the file again from where the dataset came from"
_OTHER_BYTES = "what it was packed from has changed since; run surd build to pack again"


@dataclass(frozen=True)
class Repaired:
    """One broken file; ``problem``: why it could not be repaired, ``note``: what the repair changed."""

    file: str
    problem: str | None = None
    note: str | None = None


def repair(build: Build, findings: Iterable[Finding]) -> Iterator[Repaired]:
    """Rebuild each broken file and nothing else; image shards first, since latents are made from them.

    A rebuilt image shard takes the place of the broken one only when its sha256 is the one in the manifest.
    """
    broken = sorted({finding.file: None for finding in findings}, key=lambda file: (_turn(file), file))
    config = _config(build)
    for file in broken:
        if config is None:
            yield Repaired(file, _NO_STAGES)
            continue
        try:
            with blaming_damage(build):
                note = _way(file)(build, config, file)
            yield Repaired(file, note=note)
        except SurdError as error:
            yield Repaired(file, str(error))
        except OSError as error:
            which = error.filename or "a file that it is made from"
            yield Repaired(file, f"{which} cannot be read or written ({error.strerror or error}); move it away")


def _turn(file: str) -> int:
    order = [SHARD_MANIFEST, INDEX]
    if file in order:
        return order.index(file)
    return 2 if file.startswith("shards/") else 3


def _way(file: str) -> Callable[[Build, BuildConfig, str], str | None]:
    folder, name = file.split("/")[0], file.rpartition("/")[2]
    if file in (SHARD_MANIFEST, INDEX):
        return _describe_shards
    if folder == "shards" and name.endswith(".tar"):
        return _pack_one
    if folder == "columns" and name == "manifest.json":
        return _describe_column
    if folder == "columns" and name.endswith(".tar"):
        return _embed_one
    return _leave


def _config(build: Build) -> BuildConfig | None:
    """What the build was made with; None where this is only a dataset, without the stages that made it."""
    if not build.exists("build.json") or not build.part_count():
        return None
    return recorded_config(*open_build(build.root))


def _pack_one(build: Build, config: BuildConfig, file: str) -> None:
    name = file.rpartition("/")[2]
    info = next((shard for shard in shard_manifest(build).shards if shard.name == name), None)
    group = next((group for planned, group in planned_shards(build, config.pack) if planned == name), None)
    if info is None:
        _leave(build, config, file)
    if info is None or group is None:
        raise SurdError(_OTHER_BYTES)
    with build.writing(file) as raw:
        write_samples(build, raw, name, group)
        if raw.sha256 != info.sha256:  # raised in here, so that what is there stays
            raise SurdError(_OTHER_BYTES)


def _describe_shards(build: Build, config: BuildConfig, file: str) -> str | None:
    """Manifest and index follow from what the shards are packed from; the tars are not touched."""
    shards, index = [], []
    for name, group in planned_shards(build, config.pack):
        with Path(os.devnull).open("wb") as nowhere:
            tar = HashingFile(nowhere)
            index += write_samples(build, tar, name, group)
        shards.append(ShardInfo(name=name, count=len(group), bytes=tar.size, sha256=tar.sha256))
    with build.recording() as outputs:
        describe_shards(build, shards, index, Models(config.models))
    marker = build.marker("pack", 0)
    if marker is None or {**marker.outputs, **outputs} != marker.outputs:
        return "it differs from the one that pack wrote: the rows of a stage have changed since"
    return None


def _embed_one(build: Build, config: BuildConfig, file: str) -> str | None:
    _, name, tar = file.split("/")
    manifest = columns_present(build).get(name)
    shards = [shard.name for shard in shard_manifest(build).shards]
    expected = {info.name: info.sha256 for info in manifest.tars} if manifest else {}
    if manifest is None or tar not in {*shards, *(expected.keys() & {EMPTY_PROMPT_TAR})}:  # no shard's, or no column's
        _leave(build, config, file)
        return None
    if [shard.name for shard in manifest.shards] != shards:
        raise SurdError(f"the column's manifest lists other tars than shards/ has; drop it: surd columns drop {name}")
    column, models = ColumnSpec.of(manifest), Models(config.models)
    number = 0 if tar == EMPTY_PROMPT_TAR else shards.index(tar)
    before = build.ledger(marker_folder(name)).recorded(number)
    build.remove_marker(marker_folder(name), number)
    try:
        write_column_shards(build, number, [column], config.embed, models)
    except (SurdError, OSError):
        if before is not None:
            build.write_marker(before)
        raise
    made = build.marker(marker_folder(name), number)
    assert made is not None, "it was just written"
    fresh = {output.rpartition("/")[2]: sha256 for output, sha256 in made.outputs.items()}
    if fresh.items() <= expected.items():
        return None
    if _is_whole(build, name):  # else the last of its tars to be repaired does this
        describe_column(build, column, models)
        run_unit(BY_NAME["embed"], number, build.root, config)
    if all(expected.get(name, sha256) == sha256 for name, sha256 in fresh.items()):
        return f"with it came {EMPTY_PROMPT_TAR}, which the column did not have yet"
    return "made anew with other bytes than before, as another machine or library computes; its manifest says so now"


def _is_whole(build: Build, name: str) -> bool:
    """Whether every tar of a column is there, with its marker."""
    ledger = build.ledger(marker_folder(name))
    return all(ledger.marker(number) for number in range(len(shard_manifest(build).shards)))


def _describe_column(build: Build, config: BuildConfig, file: str) -> None:
    name = file.split("/")[1]
    models = Models(config.models)
    column = next((one for one in columns_asked(config.embed, config.models) if one.name == name), None)
    if column is None:
        raise SurdError(f"its model is not known from elsewhere; drop the column: surd columns drop {name}")
    if not _is_whole(build, name):
        raise SurdError("tars of the column are missing too; run the same surd build again")
    build.remove(file)
    describe_column(build, column, models)


def _leave(build: Build, config: BuildConfig, file: str) -> None:
    raise SurdError("surd did not make it, or a stage must be run again for it; remove it, then run surd build again")
