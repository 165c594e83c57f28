"""A finished dataset is sound until a promise of its format is broken; then the file, the member and why are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import read_manifests
from surd.schemas import SurdError
from tests.pipeline.finished_sets import (
    POOLED,
    SHARD,
    TOKENS,
    exchanged,
    files,
    findings,
    other_json,
    picture,
    restate,
    rewrite,
    told,
    without,
)


def test_a_build_is_sound_with_its_stages_and_without_them(breakable):
    assert findings(breakable, stages=True) == []
    for path in breakable.iterdir():
        if path.name not in ("shards", "columns"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert findings(breakable) == []


def test_a_demo_build_is_sound(built):
    assert findings(built.root, stages=True) == []


def test_a_dataset_on_another_filesystem_is_verified_where_it_lies(breakable):
    memory = fsspec.filesystem("memory")
    memory.put(str(breakable), "/verify-elsewhere", recursive=True)
    assert findings("memory://verify-elsewhere") == []
    memory.pipe(f"/verify-elsewhere/{SHARD}", (breakable / SHARD).read_bytes()[:2000])
    assert "cut off" in told("memory://verify-elsewhere")
    memory.rm("/verify-elsewhere", recursive=True)


def test_verifying_writes_nothing(breakable):
    before = files(breakable)
    findings(breakable, stages=True)
    assert files(breakable) == before


def test_where_there_is_no_dataset_that_is_said(tmp_path):
    with pytest.raises(SurdError, match=r"holds no shards/manifest\.json"):
        read_manifests(Build(str(tmp_path)))


def test_a_changed_byte_and_a_missing_shard_are_told(breakable):
    data = bytearray((breakable / SHARD).read_bytes())
    data[600] ^= 1
    (breakable / SHARD).write_bytes(data)
    assert f"{SHARD}: its sha256 is " in told(breakable)
    (breakable / SHARD).unlink()
    assert f"{SHARD}: it is listed in the manifest and missing" in told(breakable)


def test_swapped_shards_and_swapped_columns_are_told(breakable):
    for folder in (breakable / "shards", breakable / "columns" / POOLED):
        one, other = (folder / f"surd-0000{number}.tar" for number in (0, 1))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second), other.write_bytes(first)
        restate(folder)
    broken = told(breakable)
    assert "it comes after" in broken and "keys must ascend" in broken
    assert "index.parquet lists other samples than it holds" in broken


def test_a_swapped_column_alone_is_told(breakable):
    folder = breakable / "columns" / POOLED
    one, other = (folder / f"surd-0000{number}.tar" for number in (0, 1))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second), other.write_bytes(first)
    restate(folder)
    (finding,) = findings(breakable)[:1]
    assert finding.file == f"columns/{POOLED}/surd-00000.tar"
    assert finding.problem == "it is missing: its shard has that sample"


def test_the_empty_prompt_beside_text_states_is_verified_as_they_are(built, tmp_path):
    root = tmp_path / "build"
    shutil.copytree(built.root, root)
    folder = root / "columns" / "clip-simple"
    sound, tar = (folder / "manifest.json").read_text(), folder / "empty.tar"
    shards = sum(path.stat().st_size for path in root.glob("[sc]*/**/surd-*.tar"))
    assert read_manifests(Build(str(root))).bytes == shards + tar.stat().st_size
    rewrite(tar, without(1))
    assert "columns/clip-simple/empty.tar: its sha256 is " in told(root)
    restate(folder)
    assert "columns/clip-simple/empty.tar: empty.mask.npy: it is missing" in told(root)
    tar.unlink()
    assert "columns/clip-simple/empty.tar: it is listed in the manifest and missing" in told(root)
    (folder / "manifest.json").write_text(sound)
    changed(folder / "manifest.json", empty=json.loads(sound)["empty"] | {"name": "../empty.tar"})
    refused = (
        "columns/clip-simple/manifest.json: it is not a valid ColumnManifest: Value error, empty: it is empty.tar of"
    )
    assert refused in told(root)
    changed(folder / "manifest.json", empty=None)
    tar.write_bytes(b"")
    assert told(root) == "columns/clip-simple/empty.tar: no manifest lists it"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without(0), "the sample has no image"),
        (without(1), "the sample has no simple.txt"),
        (without(3), "the sample has no json"),
        (lambda members: members[4:] + members[:4], "keys must ascend"),
        (lambda members: [members[1], members[0], *members[2:]], "it stands where the sample's image belongs"),
        (lambda members: members[:4], "it holds 1 samples and its manifest says 5"),
        (exchanged(0, picture(77)), "its sha256 is"),
        (exchanged(0, b"GIF89a"), "it is not an image"),
        (exchanged(1, b"another sentence"), "simple.txt: its text is another than the one in the sample's json"),
        (exchanged(3, b"{"), "it is not a valid Sample"),
        (exchanged(3, b"[" * 100_000), "it is not a valid Sample"),
        (other_json(clip_simple="high"), "it is not a valid Sample: clip_simple"),
        (other_json(unknown=1), "it is not a valid Sample: unknown"),
        (other_json(key="0" * 16), "its key is 0000000000000000"),
        (other_json(width=9999), "its json says 9999x24"),
        (other_json(complex="x"), "complex.txt: its text is another"),
    ],
)
def test_a_sample_that_is_not_what_it_says_is_told_also_when_the_manifest_agrees(breakable, change, sentence):
    rewrite(breakable / SHARD, change)
    restate(breakable / "shards")
    assert sentence in told(breakable)
    assert {finding.file for finding in findings(breakable) if finding.file.startswith("shards/")} == {SHARD}


def changed(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_manifests_that_lie_are_told(breakable):
    changed(breakable / "shards" / "manifest.json", count=13)
    assert "shards/manifest.json: it says 13 samples and its tars hold 12" in told(breakable)
    changed(breakable / "columns" / POOLED / "manifest.json", column="other", width=7, shape=[7])
    assert "it is the manifest of column 'other'" in told(breakable) and "its manifest says [7]" in told(breakable)
    changed(breakable / "columns" / POOLED / "manifest.json", dtype="int8")
    assert f"columns/{POOLED}/manifest.json: dtype: it is not a valid ColumnManifest" in told(breakable)
    (breakable / "columns" / TOKENS / "manifest.json").unlink()
    assert f"columns/{TOKENS}/manifest.json: it is missing" in told(breakable)
    (breakable / "shards" / "manifest.json").write_text("{")
    assert "shards/manifest.json: it is not a valid ShardManifest" in told(breakable)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..\\x.tar", "surd-00000.tar"])
def test_a_manifest_that_leads_elsewhere_or_names_a_tar_twice_is_not_followed(breakable, name):
    path = breakable / "shards" / "manifest.json"
    shards = json.loads(path.read_text())["shards"]
    shards[1]["name"] = name
    changed(path, shards=shards)
    assert f"shards/manifest.json: {name}: it is " in told(breakable)


def test_files_that_nothing_lists_are_told(breakable):
    for name in ("shards/surd-00009.tar", f"columns/{POOLED}/notes.txt"):
        (breakable / name).write_bytes(b"")
        assert f"{name}: no manifest lists it" in told(breakable)


def test_an_index_that_is_wrong_is_told(breakable):
    path = breakable / "shards" / "index.parquet"
    table = pq.read_table(path)
    sound = path.read_bytes()

    def put(name, values):
        pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)

    put("offset", [value + 512 * (row == 6) for row, value in enumerate(table["offset"].to_pylist())])
    (finding,) = findings(breakable)
    assert finding.file == SHARD and "index.parquet says" in finding.problem
    put("simple", ["x", *table["simple"].to_pylist()[1:]])
    assert "index.parquet has another simple than the sample's json" in told(breakable)
    put("sha256", ["x", *table["sha256"].to_pylist()[1:]])
    assert "index.parquet has another sha256" in told(breakable)
    pq.write_table(table.slice(1), path)
    assert "its 11 rows are not the 12 of the manifest" in told(breakable)
    pq.write_table(table.drop_columns(["key"]), path)
    assert "shards/index.parquet: it has no column key" in told(breakable)
    put("key", range(12))
    assert "shards/index.parquet: its column key is not text in every row" in told(breakable)
    put("offset", [None, *table["offset"].to_pylist()[1:]])
    assert "shards/index.parquet: its column offset is not a whole number in every row" in told(breakable)
    put("simple", pa.array([b"\xff"] * 12).view(pa.string()))
    assert "shards/index.parquet: it is not a parquet file (" in told(breakable)
    path.write_bytes(sound[:100])
    assert "shards/index.parquet: it is not a parquet file" in told(breakable)
    path.unlink()
    assert "shards/index.parquet: it is not there" in told(breakable)


def test_stages_are_told_when_asked_for(breakable):
    data = bytearray((breakable / "fetch" / "part-00000.tar").read_bytes())
    data[-1] ^= 1
    (breakable / "fetch" / "part-00000.tar").write_bytes(data)
    (breakable / "clean" / "part-00000.parquet").unlink()
    assert findings(breakable) == []
    broken = {finding.file for finding in findings(breakable, stages=True)}
    assert broken == {"fetch/part-00000.tar", "clean/part-00000.parquet"}


def test_what_cannot_be_read_is_told_and_what_is_no_marker_is_passed_over(breakable):
    (breakable / SHARD).unlink()
    (breakable / SHARD).mkdir()
    (breakable / "clean" / "mine.json").write_text("{}")
    assert {(one.file, one.problem) for one in findings(breakable, stages=True)} == {
        (SHARD, "it cannot be read (Is a directory)")
    }
