"""A stage whose input is not as it was written says which file and how to redo it, and what was finished stays."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from surd.pipeline.build.folder import Build, part_file, part_miniatures, part_tar
from surd.pipeline.build.lock import LOCK
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.pipeline.models import Models
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.dedup import dedup
from surd.pipeline.stages.pack import pack
from surd.schemas import BuildConfig, BuildRecord, Pair, ShardManifest, SurdError, load_config
from tests.pipeline.fetching import decodings, from_folder, picture
from tests.pipeline.finished_sets import files

TAR = part_tar("fetch", 0)


def flipped(data: bytes) -> bytes:
    """One bit is another, in the middle of the first image."""
    return data[:700] + bytes([data[700] ^ 1]) + data[701:]


DAMAGE = {
    "cut": lambda data: data[:1000],
    "empty": lambda data: b"",
    "zeros at its end": lambda data: data[:2000] + bytes(len(data) - 2000),
    "one bit": flipped,
}


def config_of(root: Path, **changes) -> BuildConfig:
    record = BuildRecord.model_validate_json((root / "build.json").read_bytes())
    return load_config(record.config, changes)


def packed(root: Path, config: BuildConfig) -> None:
    run_unit(BY_NAME["pack"], 0, str(root), config)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_pack_stops_at_an_image_that_is_not_as_fetched_and_the_shards_stay(breakable, damage):
    before = files(breakable / "shards")
    whole = (breakable / TAR).read_bytes()
    (breakable / TAR).write_bytes(damage(whole))
    config = config_of(breakable, **{"pack.max_count": 3})
    told = r"fetch/part-00000\.tar (is not as fetch wrote it: the image of \w{16} |has changed since its stage wrote)"
    with pytest.raises(SurdError, match=told):
        packed(breakable, config)
    assert files(breakable / "shards") == before
    assert not [path.name for path in breakable.iterdir() if path.name.startswith(".") and path.name != LOCK]
    # What the sentence asks for.
    Build(str(breakable)).remove_marker("fetch", 0)
    run_unit(BY_NAME["fetch"], 0, str(breakable), config)
    assert (breakable / TAR).read_bytes() == whole
    packed(breakable, config)
    manifest = ShardManifest.model_validate_json((breakable / "shards" / "manifest.json").read_bytes())
    assert sum(shard.count for shard in manifest.shards) == 12 and max(s.count for s in manifest.shards) == 3
    assert sorted(files(breakable / "shards")) == sorted(
        ["index.parquet", "manifest.json", *(shard.name for shard in manifest.shards)]
    )


@pytest.mark.parametrize(
    ("fault", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space"), SurdError)]
)
def test_pack_that_is_killed_or_finds_the_disk_full_leaves_the_old_shards_and_the_next_run_writes_the_new_ones(
    breakable, monkeypatch, fault, raised
):
    before, config = files(breakable / "shards"), config_of(breakable, **{"pack.max_count": 3})
    write = Build.writing

    def fails_at_a_later_shard(build, relative, **options):
        if relative.endswith("surd-00003.tar"):
            raise fault
        return write(build, relative, **options)

    with monkeypatch.context() as patched, pytest.raises(raised):
        patched.setattr(Build, "writing", fails_at_a_later_shard)
        packed(breakable, config)
    assert files(breakable / "shards") == before
    packed(breakable, config)
    after = files(breakable / "shards")
    assert "surd-00003.tar" in after.keys() - before.keys() and before.keys() < after.keys()
    marker = Build(str(breakable)).marker("pack", 0)
    assert {f"shards/{name}" for name in after} <= marker.outputs.keys()


def test_shards_that_a_kill_amid_the_swap_moved_away_come_back(breakable):
    before = files(breakable / "shards")
    (breakable / "shards").rename(breakable / ".shards.old")
    whole = (breakable / TAR).read_bytes()
    (breakable / TAR).write_bytes(whole[:1000])
    config = config_of(breakable, **{"pack.max_count": 3})  # the shards that are there stay as they are otherwise
    with pytest.raises(SurdError, match="is not as fetch wrote it"):
        pack(Build(str(breakable)), config, Models(config.models))
    assert files(breakable / "shards") == before
    (breakable / TAR).write_bytes(whole)
    (breakable / "shards").rename(breakable / ".shards.old")
    shutil.copytree(breakable / ".shards.old", breakable / ".shards.new")  # killed between the two renames
    config = config_of(breakable)
    pack(Build(str(breakable)), config, Models(config.models))
    assert files(breakable / "shards") == before
    assert not [path.name for path in breakable.iterdir() if path.name.startswith(".") and path.name != LOCK]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_no_stage_reads_an_image_that_is_not_as_fetched(tmp_path, damage):
    from_folder(tmp_path, {f"{number}.png": picture(seed=number) for number in range(3)})
    tar = tmp_path / "build" / TAR
    tar.write_bytes(damage(tar.read_bytes()))
    with pytest.raises(SurdError, match=r"remove .*fetch/part-00000\.parquet and run the same surd build .*again"):
        decodings(tmp_path)
    build = Build(str(tmp_path / "build"))
    with pytest.raises(SurdError):
        list(build.images(0, build.read_rows("fetch", 0, Pair)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:100],
        lambda data: b"",
        lambda data: data[:-300] + bytes(300),
        lambda data: data[:300] + bytes(300) + data[600:],
        lambda data: b"PAR1" + bytes(100) + b"PAR1",
    ],
    ids=["cut", "empty", "zeros at its end", "zeros within", "nothing"],
)
def test_rows_that_cannot_be_read_are_one_sentence_that_names_the_file(tmp_path, damage):
    from_folder(tmp_path, {f"{number}.png": picture(seed=number) for number in range(3)})
    build = Build(str(tmp_path / "build"))
    path = tmp_path / "build" / part_file("fetch", 0)
    path.write_bytes(damage(path.read_bytes()))
    said = r"fetch/part-00000\.parquet cannot be read .*; remove it and run the same surd build"
    for read in (
        lambda: build.read_rows("fetch", 0, Pair),
        lambda: build.read_table(part_file("fetch", 0)),
        lambda: read_columns(build, "fetch", 0, columns_of(build, "fetch", 0)),
    ):
        with pytest.raises(SurdError, match=said):
            read()


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: bytes(len(data))])
def test_damaged_miniatures_are_one_sentence_that_names_the_file(breakable, damage):
    path = breakable / part_miniatures(0)
    path.write_bytes(damage(path.read_bytes()))
    config = config_of(breakable)
    with pytest.raises(SurdError, match=r"decode/part-00000\.miniatures\.npy cannot be read"):
        list(dedup(Build(str(breakable)), config, Models(config.models)))
