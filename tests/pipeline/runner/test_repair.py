"""What is broken is rebuilt with the same bytes, alone; what cannot be is said and left as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.runner.repair import repair
from surd.schemas import BuildRecord
from tests.pipeline.finished_sets import POOLED, SHARD, files, findings, restate, rewrite, told

EMPTY, FIRST = "columns/clip-simple/empty.tar", "columns/clip-simple/surd-00000.tar"


@pytest.fixture
def repairable(built, tmp_path):
    """A copy of a finished build that can be repaired."""
    root = tmp_path / "build"
    shutil.copytree(built.root, root)
    record = BuildRecord(config=built.config.model_dump(mode="json"), versions={}, models={})
    Build(str(root)).write_json("build.json", record)
    return root


def mended(root: Path) -> dict[str, str | None]:
    return {one.file: one.problem for one in repair(Build(str(root)), findings(root))}


@pytest.mark.parametrize("damage", [lambda data: data[:3000], lambda data: b"", lambda data: data[:-1] + b"x"])
def test_a_broken_shard_is_rebuilt_with_the_same_bytes_and_nothing_else_is_touched(breakable, imported_set, damage):
    path = breakable / SHARD
    path.write_bytes(damage(path.read_bytes()))
    times = {name: (breakable / name).stat().st_mtime_ns for name in files(breakable) if name != SHARD}
    assert mended(breakable) == {SHARD: None}
    assert files(breakable) == files(imported_set)
    assert {name: (breakable / name).stat().st_mtime_ns for name in times} == times


def test_a_lost_shard_manifest_and_index_are_written_again_and_the_tars_stay(breakable, imported_set):
    times = {path: path.stat().st_mtime_ns for path in (breakable / "shards").glob("*.tar")}
    (breakable / "shards" / "index.parquet").unlink()
    assert mended(breakable) == {"shards/index.parquet": None}
    (breakable / "shards" / "manifest.json").write_text("{")
    assert mended(breakable)["shards/manifest.json"] is None
    assert files(breakable / "shards") == files(imported_set / "shards") and findings(breakable) == []
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_cannot_be_repaired_is_said_and_left_as_it_is(breakable):
    shutil.rmtree(breakable / "fetch")
    (breakable / SHARD).write_bytes(b"")
    assert "part-00000.tar" in mended(breakable)[SHARD] or "missing" in mended(breakable)[SHARD]
    assert (breakable / SHARD).read_bytes() == b""
    (breakable / "build.json").unlink()
    assert "only the dataset is here, not its stages" in mended(breakable)[SHARD]


def test_a_shard_is_not_rebuilt_from_fetched_bytes_that_have_changed(breakable):
    fetched = breakable / "fetch" / "part-00000.tar"
    fetched.write_bytes(fetched.read_bytes().replace(b"IDAT", b"IDAX"))
    before = {name: (breakable / name).read_bytes()[:1000] for name in ("shards/surd-00000.tar", SHARD)}
    for name, data in before.items():
        (breakable / name).write_bytes(data)
    said = "fetch/part-00000.tar is not as fetch wrote it"
    assert any(said in (problem or "") for problem in mended(breakable).values())


def test_an_imported_column_has_no_model_to_make_it_again_and_a_strange_file_no_maker(breakable):
    file = f"columns/{POOLED}/surd-00000.tar"
    (breakable / file).write_bytes(b"")
    (breakable / "shards" / "strange").write_bytes(b"")
    strays = [f"columns/{POOLED}/surd-00009.tar", f"columns/{POOLED}/other.tar"]
    for stray in strays:
        (breakable / stray).write_bytes(b"")
    problems = mended(breakable)
    assert all("surd did not make it" in problems[stray] for stray in strays)
    assert "drop the column" in problems[file] and "surd did not make it" in problems["shards/strange"]
    assert f"{file}: " in told(breakable) and Build(str(breakable)).ledger(f"embed/{POOLED}").recorded(0)


def test_a_column_whose_manifest_lists_other_tars_than_the_shards_is_to_be_dropped(breakable):
    file = breakable / "columns" / POOLED / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"shards": manifest["shards"][1:]}))
    (breakable / "columns" / POOLED / "surd-00001.tar").write_bytes(b"")
    problems = mended(breakable)
    assert f"drop it: surd columns drop {POOLED}" in problems[f"columns/{POOLED}/surd-00001.tar"]


def test_broken_columns_of_every_kind_are_made_again_with_the_same_bytes(built, repairable):
    root = repairable
    before = files(root)
    kinds = {manifest.kind: name for name, manifest in columns_present(built.build).items()}
    broken = {f"columns/{name}/surd-00000.tar" for name in kinds.values()} | {f"columns/{kinds['clip']}/empty.tar"}
    for file in broken:
        rewrite(root / file, lambda members: members[1:])
    tars = [name for name in before if name.endswith(".tar") and name not in broken]
    times = {name: (root / name).stat().st_mtime_ns for name in tars}
    assert mended(root) == dict.fromkeys(broken)
    after = files(root)
    markers = {f"embed/{name}/ledger/part-00000.json" for name in kinds.values()}  # they hold how long it took
    markers.add("embed/ledger/part-00000.json")
    assert {name for name in before if after.get(name) != before[name]} <= markers
    assert findings(root, stages=True) == [] and kinds
    assert {name: (root / name).stat().st_mtime_ns for name in times} == times


def older(root: Path) -> None:
    """As builds were before a column had the empty prompt."""
    build = Build(str(root))
    for folder in ("embed/clip-simple", "embed"):
        marker = build.marker(folder, 0)
        del marker.outputs[EMPTY], marker.sizes[EMPTY]
        build.write_marker(marker)
    (root / EMPTY).unlink()
    manifest = root / "columns/clip-simple/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"empty": None}))


def test_a_column_made_before_there_was_an_empty_prompt_gets_it_with_its_first_shard(repairable):
    whole = {name: (repairable / name).read_bytes() for name in (EMPTY, FIRST)}
    older(repairable)
    assert findings(repairable, stages=True) == []
    (repairable / FIRST).write_bytes(b"")
    (repaired,) = repair(Build(str(repairable)), findings(repairable))
    assert repaired.problem is None and "with it came empty.tar" in (repaired.note or "")
    assert findings(repairable, stages=True) == []
    assert {name: (repairable / name).read_bytes() for name in whole} == whole


def test_what_is_made_anew_with_other_bytes_beside_the_broken_file_is_described_too(repairable):
    """As a machine that rounds one number otherwise would have made the shard that is sound."""

    def nudge(members):
        info, data = members[0]
        return [(info, data[:-1] + bytes([data[-1] ^ 1])), *members[1:]]

    rewrite(repairable / FIRST, nudge)
    restate(repairable / "columns/clip-simple")
    (repairable / EMPTY).write_bytes(b"")
    (repaired,) = repair(Build(str(repairable)), findings(repairable))
    assert repaired.problem is None and "made anew with other bytes" in (repaired.note or "")
    assert findings(repairable) == []


def test_a_column_without_manifest_whose_tar_is_damaged_is_one_sentence(repairable):
    (repairable / "columns/clip-simple/manifest.json").unlink()
    (repairable / FIRST).write_bytes(bytes((repairable / FIRST).stat().st_size))
    problem = mended(repairable)["columns/clip-simple/manifest.json"]
    assert problem and f"{FIRST} is damaged (its first sample has no array)" in problem
