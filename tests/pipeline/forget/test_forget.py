"""surd forget takes records out of every file of a build, keeps them out, and leaves all others as they were."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import SILENT
from surd.pipeline.acquisition.tombstones import FORGOTTEN, Tombstones
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.forget import forget as removal
from surd.pipeline.forget.forget import PENDING, RemovalRequest, finish_forgetting, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from surd.pipeline.forget.rows import ROW_STAGES
from surd.pipeline.model_cache.outputs import OutputCache, picture_item, text_item
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import Corrected, Pair, Reason, SourceRecord, SurdError, Tombstone
from tests.pipeline.finished_sets import PER_SHARD, picture


def run(build: Build, *records: str, **request) -> removal.Removal:
    return removal.forget(build, plan_removal(build, RemovalRequest(records=records, **request)))


def records(build: Build) -> list[SourceRecord]:
    return [row for part in range(build.part_count()) for row in build.read_rows("collect", part, SourceRecord)]


def faults(build: Build) -> list[str]:
    """What surd verify --stages finds."""
    manifests = read_manifests(build)
    checked = [*verify(build, manifests), *verify_stages(build)]
    return [str(finding) for one in checked for finding in one.findings] + [str(one) for one in manifests.findings]


def left(build: Build) -> list[str]:
    return [f"{one.file}: {one.what}" for one in find_leftovers(build)]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def build(breakable) -> Build:
    """Twelve samples in three shards, with two columns, in partitions of which the record's is one."""
    return Build(str(breakable))


@pytest.fixture
def sample(build) -> SourceRecord:
    """A record that is in the second shard."""
    index = build.read_table("shards/index.parquet").to_pylist()
    key = next(row["key"] for row in index if row["shard"] == "surd-00001.tar")
    return next(record for record in records(build) if record.key == key)


def test_nothing_is_left_of_a_record_and_all_others_are_as_they_were(build, sample, breakable):
    before = files(breakable)
    samples = {row["key"]: row for row in build.read_table("shards/index.parquet").to_pylist()}
    done = run(build, sample.key, reason="asked by mail")
    assert faults(build) == [] and left(build) == []
    after = files(breakable)
    assert not any(sample.prompt.encode() in data for data in after.values() if data[:4] != b"PAR1")
    for name in ("surd-00000.tar", "surd-00002.tar"):
        for folder in ("shards", *(f"columns/{column}" for column in build.listdir("columns"))):
            assert after[f"{folder}/{name}"] == before[f"{folder}/{name}"]
    index = {row["key"]: row for row in build.read_table("shards/index.parquet").to_pylist()}
    assert index.keys() == samples.keys() - {sample.key}
    for key, row in index.items():
        assert {**row, "offset": 0} == {**samples[key], "offset": 0}
        with build.open(f"shards/{row['shard']}") as shard:
            shard.seek(row["offset"])
            assert hashlib.sha256(shard.read(row["size"])).hexdigest() == row["sha256"]
    assert done.removed["shards"] == 1 and done.removed["column tars"] == 2 and done.notes == []
    assert b"11 images" in after["README.md"] and "report.html" in after


def test_what_killed_runs_left_goes_too(build, sample, breakable):
    for folder in (".scratch/dedup", ".shards.new", ".shards.old"):
        (breakable / folder).mkdir(parents=True)
        (breakable / folder / "documents").write_text(sample.prompt)
    run(build, sample.key)
    assert left(build) == [] and not any(sample.prompt.encode() in data for data in files(breakable).values())


def test_its_row_stays_in_every_stage_rejected_and_without_content(build, sample):
    counts = {stage.name: build.read_table(part_file(stage.name, 0)).num_rows for stage in ROW_STAGES}
    run(build, sample.key)
    for stage in ROW_STAGES:
        rows = build.read_rows(stage.name, 0, stage.row)
        assert len(rows) == counts[stage.name]
        row = next(row for row in rows if row.key == sample.key)
        assert (row.reason, row.rejected_by) == (Reason.FORGOTTEN, "collect")
        rest = row.model_dump(exclude={"key", "status", "reason", "rejected_by", "source"}, exclude_defaults=True)
        assert rest in ({}, {"source_id": ""})
        again = Build(build.root)  # as the stage itself would have written these rows
        data = again.read_bytes(part_file(stage.name, 0))
        again.write_rows(stage.name, 0, stage.row, rows)
        assert again.read_bytes(part_file(stage.name, 0)) == data


def test_the_bytes_of_the_other_pictures_are_found_where_they_lie_now(build, sample):
    run(build, sample.key)
    kept = [pair for pair in build.read_rows("fetch", 0, Pair) if pair.kept]
    assert [hashlib.sha256(data).hexdigest() for data in build.images(0, kept)] == [pair.sha256 for pair in kept]
    with tarfile.open(build.local_path("fetch/part-00000.tar")) as tar:
        assert sample.key not in " ".join(tar.getnames())


def test_the_tombstone_holds_hashes_and_the_reason_alone(build, sample, breakable):
    run(build, sample.key, reason="asked by mail")
    text = (breakable / FORGOTTEN).read_text()
    (stone,) = Tombstones.read(build).stones
    assert stone.key == sample.key and stone.why == "asked by mail" and len(stone.pictures) == 1 and stone.url
    assert sample.url not in text and sample.prompt.split(",")[0] not in text and sample.source_id not in text


def test_the_same_command_again_changes_nothing(build, sample, breakable):
    run(build, sample.key)
    before = files(breakable)
    run(build, sample.key)
    run(build)
    after = files(breakable)
    assert {name for name in after.keys() | before if after.get(name) != before.get(name)} <= {
        "report/ledger/part-00000.json"  # holds the seconds
    }


def test_a_removal_killed_anywhere_is_finished_by_the_next_run(build, sample, breakable, tmp_path, monkeypatch):
    """Killed before every write in turn; then the next build finishes it, with the same result."""

    class Killed(Exception):
        pass

    (breakable / "report.html").unlink()  # it would be made again each time
    whole = tmp_path / "whole"
    shutil.copytree(breakable, whole)
    monkeypatch.setattr(removal, "_now", lambda: "2026-11-29T00:00:00+00:00")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    run(Build(str(whole)), sample.key)
    expected = files(whole)
    writing, stops = Build.writing, 0
    for stop in [*range(8), *range(8, 200, 3)]:
        root = tmp_path / f"killed-{stop}"
        shutil.copytree(breakable, root)
        left_to_write = stop

        def killed(self, relative, **options):
            nonlocal left_to_write
            if left_to_write == 0:
                raise Killed
            left_to_write -= 1
            return writing(self, relative, **options)

        was_killed = False
        with monkeypatch.context() as patch:
            patch.setattr(Build, "writing", killed)
            try:
                run(Build(str(root)), sample.key)
            except Killed:
                was_killed, stops = True, stops + 1
        finish_forgetting(Build(str(root)))
        if not (root / FORGOTTEN).exists():  # killed before anything was written
            shutil.rmtree(root)
            continue
        assert files(root) == expected, stop
        assert not (root / PENDING).exists()
        shutil.rmtree(root)
        if not was_killed:
            break
    assert stops > 15


def put_back(root: Path, old: dict[str, bytes], name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(old[name])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("collect/part-00000.parquet", "row of"),
        ("fetch/part-00000.tar", "member"),
        ("fetch/part-00000.parquet", "row of"),
        ("decode/part-00000.miniatures.npy", "miniature of"),
        ("clean/part-00000.parquet", "row of"),
        ("selection.parquet", "row of"),
        ("shards/surd-00001.tar", "member"),
        ("shards/index.parquet", "row of"),
        ("columns/llm-13b-l39/surd-00001.tar", "member"),
        ("report.html", "record"),
    ],
)
def test_the_proof_names_a_file_that_was_put_back(build, sample, breakable, name, what):
    old = files(breakable)
    if name != "report.html":
        (breakable / "report.html").unlink()  # it would be made again
    run(build, sample.key)
    put_back(breakable, old, name)
    assert any(line.startswith(f"{name}: {what}") and sample.key in line for line in left(build))
    run(build)  # all that was ever removed
    assert left(build) == []


def test_the_proof_finds_a_picture_under_any_name(build, sample, breakable):
    pair = next(pair for pair in build.read_rows("fetch", 0, Pair) if pair.key == sample.key)
    (data,) = build.images(0, [pair])
    run(build, sample.key)
    (breakable / "copy.bin").write_bytes(data)
    (breakable / "notes.txt").write_text(f"see {sample.key}")
    assert left(build) == ["copy.bin: it is a removed picture", f"notes.txt: key {sample.key}"]


def test_without_any_removal_there_is_nothing_to_prove(build):
    with pytest.raises(SurdError, match=r"has no forgotten\.jsonl"):
        left(build)
    with pytest.raises(SurdError, match="nothing to remove is given"):
        plan_removal(build, RemovalRequest())


def test_a_dry_run_and_an_unknown_name_change_nothing(build, sample, breakable):
    before = files(breakable)
    plan = plan_removal(build, RemovalRequest(records=[sample.key]))
    assert [one.key for one in plan.fresh] == [sample.key] and plan.shards == {"surd-00001.tar": [sample.key]}
    assert plan.size > 0
    with pytest.raises(SurdError, match=r"has no record of '0{16}', 'http://nowhere/x\.png', 'author Nobody'; nothing"):
        run(build, sample.key, "0" * 16, "http://nowhere/x.png", authors=["Nobody"])
    with pytest.raises(SurdError, match="it is not a host name"):
        run(build, hosts=["https://a.example/x"])
    assert files(breakable) == before


def test_an_import_run_again_keeps_it_out_and_redoes_nothing(build, sample, breakable):
    run(build, sample.key)
    before = files(breakable)
    layout = json.loads((breakable / "build.json").read_text())["source"].removeprefix("finished:")
    summary = import_dataset(Import(layout=layout, out=str(breakable), fields=PER_SHARD), SILENT)
    assert summary["kept"] == 11 and summary["rejected"] == {"forgotten": 1} and summary["run_units"] == 0
    assert left(build) == [] and faults(build) == []
    assert files(breakable)["shards/surd-00001.tar"] == before["shards/surd-00001.tar"]


def test_what_models_gave_for_it_leaves_the_cache(build, sample):
    row = next(row for row in build.read_rows("correct", 0, Corrected) if row.key == sample.key)
    pair, other = (
        next(one for one in build.read_rows("fetch", 0, Pair) if (one.key == sample.key) == wanted)
        for wanted in (True, False)
    )
    with OutputCache(build.root, 0, [sample.key]) as cache:
        space = cache.space("caption", version=1)
        items = [picture_item(pair), picture_item(other), text_item(row.simple), text_item("of others")]
        space.outputs(items, lambda places: [b"%d" % place for place in places])
        variants = cache.space("correct-clip-texts", version=1)
        variants.outputs([text_item("a variant that no row holds")], lambda places: [b"v" for _ in places])
    assert any("model-cache" in line for line in left_of(build, sample, pair))
    run(build, sample.key)
    assert not left(build)
    with OutputCache(build.root, 0, [sample.key]) as cache:
        assert cache.space("caption", version=1).read(items) == [None, b"1", None, b"3"]
        assert cache.space("correct-clip-texts", version=1).read([text_item("a variant that no row holds")]) == [None]


def left_of(build: Build, sample: SourceRecord, pair: Pair) -> list[str]:
    """What the proof would say if the record had a tombstone already."""
    stone = Tombstone(key=sample.key, pictures=[pair.sha256], when="now")
    build.write_bytes(FORGOTTEN, Tombstones("salt", [stone]).text().encode())
    lines = left(build)
    build.remove(FORGOTTEN)
    return lines


def test_copies_go_with_a_record_unless_they_are_to_stay(tmp_path):
    folder = tmp_path / "images"
    (folder / "train").mkdir(parents=True)
    rows = []
    for number, seed in enumerate([1, 2, 1, 3]):  # the third is the first once more
        (folder / "train" / f"{number}.png").write_bytes(picture(seed))
        rows.append({"file_name": f"{number}.png", "text": f"plain {number}", "prompt": f"keywords {number}"})
    (folder / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_dataset(Import(layout=f"imagefolder:{folder}", out=str(tmp_path / "build"), fields=PER_SHARD), SILENT)
    shutil.copytree(tmp_path / "build", tmp_path / "other")
    build, other = Build(str(tmp_path / "build")), Build(str(tmp_path / "other"))
    by_prompt = {record.prompt: record.key for record in records(build)}
    done = run(build, by_prompt["keywords 0"])
    assert [(one.key, one.copy_of) for one in done.copies] == [(by_prompt["keywords 2"], by_prompt["keywords 0"])]
    assert {record.prompt for record in records(build)} == {"keywords 1", "keywords 3", None}
    assert not run(other, by_prompt["keywords 0"], copies=False).copies
    assert {record.prompt for record in records(other)} == {"keywords 1", "keywords 2", "keywords 3", None}
    assert Tombstones.read(other).pictures == set()
    assert left(build) == left(other) == [] and faults(build) == faults(other) == []
