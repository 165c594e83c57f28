"""Several captions of a sample on their way: packed beside it, verified, repaired, shown, exported and imported."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.dataset.export import LAYOUTS, export
from surd.pipeline.dataset.reader import StoredSample, read_manifest, read_scores, read_shard
from surd.pipeline.inspection.lookup import lookup
from surd.pipeline.models import Models
from surd.pipeline.runner.repair import repair
from surd.pipeline.stages import BY_NAME
from surd.schemas import Corrected, SurdError
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import dump_captions
from surd.schemas.shard_format.tar import add_member
from tests.pipeline.finished_sets import SHARD, authors_set, files, findings, imported, picture, restate, rewrite, told

MEMBER = "captions.json"


def captions_of(number: int) -> list[Caption]:
    """Of every third sample none."""
    short = Caption(name="short", text=f"«{number}», kurz", score=None, model="tiny", dropped=["colour: red (0.2)"])
    return [short, Caption(name="long", text=f"a long caption of picture {number}")][: number % 3]


@pytest.fixture(scope="module")
def captioned(tmp_path_factory) -> Path:
    """Twelve imported samples, of which eight have one or two captions."""
    root = tmp_path_factory.mktemp("captioned")
    metadata = authors_set(root / "SURD") / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    for number, row in enumerate(rows):
        if captions := captions_of(number):
            row["captions_json"] = dump_captions(captions)
    metadata.write_text("\n".join(map(json.dumps, rows)))
    assert imported(f"authors:{root / 'SURD'}", root / "build")["kept"] == 12
    return root / "build"


@pytest.fixture
def harmed(captioned, tmp_path) -> Path:
    """A copy of it, to break."""
    return shutil.copytree(captioned, tmp_path / "build")


def samples(root: Path) -> list[StoredSample]:
    build = Build(str(root))
    scores = read_scores(build)
    return [sample for shard in read_manifest(build).shards for sample in read_shard(build, shard, scores)]


def number_of(sample: StoredSample) -> int:
    return int(Path(sample.sample.source_id).stem)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_captions_are_the_fifth_file_of_a_sample_that_has_several_and_no_other_has_it(captioned):
    for sample in (every := samples(captioned)):
        assert list(sample.captions) == captions_of(number_of(sample))
    names = [name for shard in sorted((captioned / "shards").glob("*.tar")) for name in members(shard)]
    order = ["simple.txt", "complex.txt", "json", MEMBER]
    assert names == [
        f"{sample.sample.key}.{suffix}"
        for sample in every
        for suffix in [sample.sample.ext, *(order if sample.captions else order[:3])]
    ]
    assert findings(captioned, stages=True) == []


def test_plain_webdataset_and_the_index_have_them_too(captioned):
    shards = sorted(str(path) for path in (captioned / "shards").glob("*.tar"))
    index = pq.read_table(captioned / "shards" / "index.parquet")
    assert index.column_names[-1] == "captions"
    for sample, row in zip(wds.WebDataset(shards, shardshuffle=False).decode("pil"), index.to_pylist(), strict=True):
        assert (sample["__key__"], sample.get(MEMBER)) == (row["key"], row["captions"])


def test_hugging_face_datasets_reads_them_by_the_card(captioned, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset(str(captioned), split="train", cache_dir=str(tmp_path))
    expected = {sample.sample.key: [one.model_dump() for one in sample.captions] for sample in samples(captioned)}
    assert {row["__key__"]: row[MEMBER] or [] for row in loaded} == expected
    assert "8 of them have several captions" in (captioned / "README.md").read_text()


def test_a_build_without_several_captions_has_no_trace_of_them(imported_set):
    assert "captions" not in pq.read_schema(imported_set / "shards" / "index.parquet").names
    assert MEMBER not in (imported_set / "README.md").read_text()
    assert not any(name.endswith(MEMBER) for name in members(imported_set / SHARD))


def pack_with(build: Build, captions: Callable[[Corrected], str | None]) -> None:
    """Pack again, as if correct had given each row these captions."""
    rows = [row.model_copy(update={"captions": captions(row)}) for row in build.read_rows("correct", 0, Corrected)]
    build.write_rows("correct", 0, Corrected, rows)
    config = recorded_config(*open_build(build.root))
    BY_NAME["pack"].load()(build, config, Models(config.models))


def test_what_correct_states_is_packed_and_the_same_rows_give_the_same_bytes(imported_set, tmp_path):
    plain = Build(str(shutil.copytree(imported_set, tmp_path / "plain")))

    def packed(change):
        pack_with(plain, change)
        return files(Path(plain.root) / "shards")

    before = files(imported_set / "shards")
    assert packed(lambda row: None) == packed(lambda row: "[]") == before
    with_captions = packed(lambda row: dump_captions([Caption(name="short", text=row.key)]))
    assert with_captions != before
    spaced = packed(lambda row: json.dumps(json.loads(dump_captions([Caption(name="short", text=row.key)])), indent=1))
    assert spaced == with_captions
    with pytest.raises(SurdError, match=r"part-00000.parquet is not valid \(captions of .*: 0.text: it is empty\)"):
        packed(lambda row: '[{"name":"short","text":""}]')
    assert files(Path(plain.root) / "shards") == with_captions


def test_a_record_is_shown_with_its_captions(captioned):
    sample = next(sample for sample in samples(captioned) if len(sample.captions) == 2)
    record = lookup(Build(str(captioned)), sample.sample.key)
    expected = [one.model_dump() for one in sample.captions]
    assert record["stages"]["correct"]["captions"] == record["shard"]["captions"] == expected


def first_captions(root: Path) -> str:
    return next(name for name in members(root / SHARD) if name.endswith(MEMBER))


def other(data: bytes):
    """A change of a shard: other bytes in its first captions."""

    def change(found):
        at = next(at for at, (info, _) in enumerate(found) if info.name.endswith(MEMBER))
        return [(info, data if place == at else old) for place, (info, old) in enumerate(found)]

    return change


def moved_before_json(found):
    at = next(at for at, (info, _) in enumerate(found) if info.name.endswith(MEMBER))
    return [*found[: at - 1], found[at], found[at - 1], *found[at + 1 :]]


def moved_to_the_front(found):
    at = next(at for at, (info, _) in enumerate(found) if info.name.endswith(MEMBER))
    return [found[at], *found[:at], *found[at + 1 :]]


def without_captions(found):
    return [(info, data) for info, data in found if not info.name.endswith(MEMBER)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (other(b"["), "it is not a list of Caption: Invalid JSON"),
        (other(b"[]"), "it lists no caption; a sample without several has no such member"),
        (other(b'[{"name":"short","text":"another"}]'), "index.parquet has other captions of the sample"),
        (other(b'[{"name":"short","text":"a","more":1}]'), "0.more: Extra inputs are not permitted"),
        (other(b'[{"name":"short","text":"\\u001b[31m"}]'), "0.text: it holds a control character"),
        (other(b'[{"name":"short","text":"\xff"}]'), "invalid unicode"),
        (other(b"[" * 200_000), "recursion limit exceeded"),
        (other(b'[{"name":"a","text":"b"}' + b',{"name":"a","text":"b"}' * 64 + b"]"), "at most 64 items"),
        (other(b" " * 300_000), "it has 300,000 bytes; the captions of a sample may have 262,144"),
        (without_captions, "the sample has no captions.json, and index.parquet lists captions of it"),
        (moved_before_json, "it stands where the sample's json belongs"),
        (moved_to_the_front, "the sample's image belongs"),
    ],
)
def test_captions_that_are_not_what_they_should_be_are_told(harmed, change, sentence):
    rewrite(harmed / SHARD, change)
    restate(harmed / "shards")
    assert sentence in told(harmed)
    assert {finding.file for finding in findings(harmed) if finding.file.startswith("shards/")} == {SHARD}


def test_captions_that_the_index_does_not_list_are_told_and_not_exported(harmed, tmp_path):
    path = harmed / "shards" / "index.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["captions"]), path)
    assert told(harmed).count("index.parquet has other captions of the sample") == 8
    with pytest.raises(SurdError, match=r"index\.parquet has no captions, and surd-.*\.tar holds .*verify .* --repair"):
        export(Build(str(harmed)), "parquet", Build(str(tmp_path / "out")))
    pq.write_table(table.set_column(len(table.column_names) - 1, "captions", pa.array(["x"] * 12)), path)
    assert "index.parquet has other captions of the sample" in told(harmed)


def test_a_caption_that_is_not_valid_ends_an_export_with_its_member(harmed, tmp_path):
    name = first_captions(harmed)
    rewrite(harmed / SHARD, other(b'[{"name":"short"}]'))
    with pytest.raises(SurdError, match=rf"{name}: it is not a list of Caption: 0.text: Field required; repair it"):
        export(Build(str(harmed)), "imagefolder", Build(str(tmp_path / "out")))


def test_broken_captions_and_a_lost_index_are_repaired_with_the_same_bytes(harmed, captioned):
    rewrite(harmed / SHARD, other(b"[]"))
    (harmed / "shards" / "index.parquet").unlink()
    repaired = {one.file: one.problem for one in repair(Build(str(harmed)), findings(harmed))}
    assert repaired == {SHARD: None, "shards/index.parquet": None}
    assert files(harmed) == files(captioned)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_go_out_in_every_layout_and_come_back_byte_for_byte(captioned, tmp_path, layout):
    export(Build(str(captioned)), layout, Build(str(tmp_path / "out")))
    imported(f"{layout}:{tmp_path / 'out'}", tmp_path / "again")
    assert files(tmp_path / "again" / "shards") == files(captioned / "shards")


def test_the_layouts_hold_them_as_the_text_of_the_member(captioned, tmp_path, monkeypatch):
    texts = {sample.sample.key: dump_captions(sample.captions) for sample in samples(captioned) if sample.captions}
    for layout in ("imagefolder", "img2dataset", "parquet"):
        export(Build(str(captioned)), layout, Build(str(tmp_path / layout)))
    lines = (tmp_path / "imagefolder" / "train" / "metadata.jsonl").read_text().splitlines()
    tables = [
        pq.read_table(path, columns=["key", "captions_json"]) for path in (tmp_path / "parquet").rglob("*.parquet")
    ]
    documents = [
        json.loads(data)
        for tar in (tmp_path / "img2dataset").glob("*.tar")
        for name, data in members(tar).items()
        if name.endswith(".json")
    ]
    for rows in (map(json.loads, lines), (row for table in tables for row in table.to_pylist()), documents):
        assert {row["key"]: row["captions_json"] for row in rows if row.get("captions_json")} == texts
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset(str(tmp_path / "parquet"), cache_dir=str(tmp_path / "cache"))["train"]
    assert {row["key"]: row["captions_json"] for row in loaded if row["captions_json"]} == texts


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("[", "captions_json is left out: it is not a list of Caption: Invalid JSON"),
        ('["a cat"]', "captions_json is left out: it is not a list of Caption: 0: Input should be"),
        (7, "captions_json is left out: it is int, not the JSON text of a list"),
        ("[]", ""),
    ],
)
def test_a_row_whose_captions_are_not_valid_is_kept_without_them_and_says_so(tmp_path, value, detail):
    metadata = authors_set(tmp_path / "SURD", 2) / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    rows[0]["captions_json"] = value
    metadata.write_text("\n".join(map(json.dumps, rows)))
    assert imported(f"authors:{tmp_path / 'SURD'}", tmp_path / "out")["kept"] == 2
    first, second = Build(str(tmp_path / "out")).read_rows("correct", 0, Corrected)
    assert (first.captions, second.captions, second.detail) == (None, None, None)
    assert (first.detail or "").startswith(detail) and bool(first.detail) == bool(detail)


def test_scores_of_captions_are_kept_only_with_the_image_they_were_measured_on(harmed, tmp_path):
    build = Build(str(harmed))
    pack_with(build, lambda row: dump_captions([Caption(name="short", text="scored", score=0.5)]))
    export(build, "imagefolder", Build(str(tmp_path / "out")))
    (tmp_path / "out" / "train" / samples(harmed)[0].file_name).write_bytes(picture(99))
    imported(f"imagefolder:{tmp_path / 'out'}", tmp_path / "again")
    scores = {sample.sample.key: sample.captions[0].score for sample in samples(tmp_path / "again")}
    assert scores.pop(samples(harmed)[0].sample.key) is None
    assert set(scores.values()) == {0.5}


def test_a_member_of_captions_without_a_sample_is_told(harmed):
    with tarfile.open(harmed / SHARD, "a") as tar:
        add_member(tar, f"{'f' * 16}.{MEMBER}", b'[{"name":"a","text":"b"}]')
    restate(harmed / "shards")
    assert f"{'f' * 16}: the sample has no image" in told(harmed)
