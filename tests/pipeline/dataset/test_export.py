"""A finished dataset goes out into other layouts and comes back the same, whatever lies in them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import webdataset as wds

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import LAYOUTS, export
from surd.pipeline.dataset.reader import read_column_shard, read_manifest, read_scores, read_shard
from surd.pipeline.dataset.torch_vectors import PromptVectors, vector_file
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.schemas import Pair, Reason, Selected, SurdError
from tests.pipeline.finished_sets import authors_set, imported, picture


@pytest.fixture(scope="module")
def surd(tmp_path_factory) -> Path:
    return authors_set(tmp_path_factory.mktemp("authors") / "SURD")


@pytest.fixture(scope="module")
def build(surd) -> Path:
    out = surd.parent / "build"
    assert imported(f"authors:{surd}", out)["kept"] == 12
    return out


def samples(root: Path) -> list:
    build = Build(str(root))
    scores = read_scores(build)
    return [sample for shard in read_manifest(build).shards for sample in read_shard(build, shard, scores)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_authors_images_prompts_and_vectors_arrive_as_they_are(surd, build):
    rows = [json.loads(line) for line in (surd / "train" / "metadata.jsonl").read_text().splitlines()]
    by_id = {sample.sample.source_id: sample for sample in samples(build)}
    for row in rows:
        sample = by_id[f"train/{row['file_name']}"]
        assert (sample.sample.simple, sample.sample.complex) == (row["text"], row["prompt"])
        assert sample.image == (surd / "train" / row["file_name"]).read_bytes()
        assert (sample.sample.method, sample.sample.clip_simple) == ("imported", None)
    opened = Build(str(build))
    texts = {sample.sample.key: sample.sample.simple for sample in samples(build)}
    for name, layer, stored in (("llm-13b-l39", 39, np.float16), ("llm-13b-l10-tokens", 10, np.uint16)):
        vectors = torch.load(surd / "prompt2vec" / "13B" / f"{layer}.pt", weights_only=True)
        found = [pair for shard in read_manifest(opened).shards for pair in read_column_shard(opened, name, shard)]
        assert [key for key, _ in found] == [sample.sample.key for sample in samples(build)]
        for key, array in found:
            assert array.dtype == stored
            expected = vectors[texts[key]]
            bits = expected.view(torch.uint16) if stored is np.uint16 else expected
            assert np.array_equal(array, bits.numpy())
    assert [finding for checked in verify(opened, read_manifests(opened)) for finding in checked.findings] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_exported_and_imported_gives_the_same_shards_byte_for_byte(build, tmp_path, layout):
    count = export(Build(str(build)), layout, Build(str(tmp_path / "out")))
    summary = imported(f"{layout}:{tmp_path / 'out'}", tmp_path / "again")
    assert (count, summary["kept"], summary["rejected"]) == (12, 12, {})
    assert files(tmp_path / "again" / "shards") == files(build / "shards")
    if layout == "authors":
        assert files(tmp_path / "again" / "columns") == files(build / "columns")


def test_an_exported_demo_build_comes_back_with_its_provenance_and_every_score(built, tmp_path):
    export(built.build, "parquet", Build(str(tmp_path / "out")))
    imported(f"parquet:{tmp_path / 'out'}", tmp_path / "again", fields={"pack.max_count": built.config.pack.max_count})
    again, before = files(tmp_path / "again" / "shards"), files(built.root / "shards")
    assert again == before
    assert all(sample.sample.source == "demo" for sample in samples(tmp_path / "again"))


def test_vectors_go_out_as_the_authors_code_loads_them(surd, build, tmp_path):
    export(Build(str(build)), "authors", Build(str(tmp_path / "out")))
    for theirs, ours in (("13B/39.pt", "13B/39.pt"), ("13B/10.pt", "13B-tokens/10.pt")):
        before = torch.load(surd / "prompt2vec" / theirs, weights_only=True)
        after = torch.load(tmp_path / "out" / "prompt2vec" / ours, weights_only=True)
        assert {*before} == {*after}
        assert all(torch.equal(before[prompt], after[prompt]) for prompt in before)
        assert {tensor.dtype for tensor in before.values()} == {tensor.dtype for tensor in after.values()}


def test_vectors_of_samples_that_are_left_out_stay_too(build, tmp_path):
    keeps = {"simple «0»", "simple «1»"}
    export(Build(str(build)), "authors", Build(str(tmp_path / "out")), keeps=lambda sample: sample.simple in keeps)
    assert {*torch.load(tmp_path / "out" / "prompt2vec" / "13B" / "39.pt", weights_only=True)} == keeps


def test_a_strangers_model_name_does_not_lead_out_of_the_folder(build, tmp_path):
    shutil.copytree(build, tmp_path / "build")
    manifest = tmp_path / "build" / "columns" / "llm-13b-l39" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"model": "x/.."}))
    export(Build(str(tmp_path / "build")), "authors", Build(str(tmp_path / "out")))
    assert (tmp_path / "out" / "prompt2vec" / "llm" / "39.pt").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_dataset_is_exported_to_the_same_bytes(build, tmp_path, layout):
    for name in ("a", "b"):
        export(Build(str(build)), layout, Build(str(tmp_path / name)))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_hugging_face_datasets_reads_folder_and_parquet_as_images(build, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    for layout in ("authors", "imagefolder", "parquet"):
        export(Build(str(build)), layout, Build(str(tmp_path / layout)))
        loaded = datasets.load_dataset(str(tmp_path / layout), cache_dir=str(tmp_path / "cache"))["train"]
        assert isinstance(loaded.features["image"], datasets.Image)
        rows = {row["key"]: row for row in loaded}
        for sample in samples(build):
            row = rows[sample.sample.key]
            assert (row["text"], row["prompt"]) == (sample.sample.simple, sample.sample.complex)
            assert row["image"].size == (32, 24)


def test_img2dataset_finds_its_tars_tables_and_figures(build, tmp_path):
    export(Build(str(build)), "img2dataset", Build(str(tmp_path / "out")))
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[:3] == [
        "00000.parquet", "00000.tar", "00000_stats.json",
    ]  # fmt: skip
    shard = [*wds.WebDataset(str(tmp_path / "out" / "00000.tar"), shardshuffle=False)]
    table = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [sample["__key__"] for sample in shard] == [row["key"] for row in table]
    assert [sample["txt"].decode() for sample in shard] == [row["caption"] for row in table]
    stats = json.loads((tmp_path / "out" / "00000_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["status_dict"]) == (5, 5, {"success": 5})


def test_a_row_that_is_no_whole_sample_is_counted_with_its_reason(tmp_path):
    root = authors_set(tmp_path / "SURD", 2)
    (root / "train" / "bad.png").write_bytes(b"no image")
    (root / "train" / "cut.png").write_bytes(picture(7)[:200])
    (root / "train" / "unlisted.png").write_bytes(picture(8))
    (root / "train" / "half.png").write_bytes(picture(9))
    lines = [
        {"file_name": "bad.png", "text": "t", "prompt": "p"},
        {"file_name": "cut.png", "text": "t", "prompt": "p"},
        {"file_name": "gone.png", "text": "t", "prompt": "p"},
        {"file_name": "../../etc/passwd", "text": "t", "prompt": "p"},
        {"file_name": "half.png", "prompt": "p"},
    ]
    with (root / "train" / "metadata.jsonl").open("a") as file:
        file.write("".join(f"\n{json.dumps(line)}" for line in lines))
    summary = imported(f"authors:{root}", tmp_path / "out", pooling=None)
    assert summary["kept"] == 2
    assert summary["rejected"] == {
        "no_image": 2, "not_an_image": 1, "broken_image": 1, "no_prompt": 1, "no_simple_prompt": 1,
    }  # fmt: skip
    rows = Build(str(tmp_path / "out")).read_rows("select", 0, Selected)
    assert {row.rejected_by for row in rows if not row.kept} == {"collect", "fetch"}
    assert Reason.NO_SIMPLE_PROMPT.meaning


def test_a_stranger_cannot_claim_another_records_key_or_scores(build, tmp_path):
    export(Build(str(build)), "imagefolder", Build(str(tmp_path / "out")))
    path = tmp_path / "out" / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["key"] = "f" * 16
    rows[1]["clip_simple"] = 0.9
    (tmp_path / "out" / "train" / rows[1]["file_name"]).write_bytes(picture(99))
    path.write_text("\n".join(map(json.dumps, rows)))
    imported(f"imagefolder:{tmp_path / 'out'}", tmp_path / "again")
    found = {sample.sample.source_id: sample.sample for sample in samples(tmp_path / "again")}
    assert "f" * 16 not in {sample.key for sample in found.values()}
    assert found[f"train/{rows[0]['file_name']}"].source == "huggingface:out"
    assert found[rows[1]["source_id"]].clip_simple is None


def test_an_import_that_was_stopped_goes_on_and_one_that_is_done_has_nothing_to_do(surd, build, tmp_path):
    shutil.copytree(build, tmp_path / "build")
    before = files(tmp_path / "build")
    summary = imported(f"authors:{surd}", tmp_path / "build")
    assert summary["run_units"] == 0
    assert files(tmp_path / "build") == before
    shutil.rmtree(tmp_path / "build" / "shards")
    imported(f"authors:{surd}", tmp_path / "build")
    assert files(tmp_path / "build" / "shards") == files(build / "shards")


def test_an_import_keeps_the_original_bytes_so_that_its_shards_can_be_made_again(build):
    pairs = Build(str(build)).read_rows("fetch", 0, Pair)
    assert [*Build(str(build)).images(0, [pair for pair in pairs if pair.kept])]


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ("nonsense:x", "give one of authors:FOLDER"),
        ("authors", "give one of authors:FOLDER"),
        ("authors:/nowhere", "no folder is there"),
    ],
)
def test_what_is_no_layout_is_told(tmp_path, layout, sentence):
    with pytest.raises(SurdError, match=sentence):
        imported(layout, tmp_path / "out")


def test_an_import_does_not_write_over_another_build(surd, build):
    with pytest.raises(SurdError, match="holds a build of 'finished:authors:"):
        imported(f"imagefolder:{surd}", build)


def test_an_import_into_a_folder_whose_record_is_damaged_is_refused(build, tmp_path):
    shutil.copytree(build, tmp_path / "build")
    (tmp_path / "build" / "build.json").write_text("{")
    with pytest.raises(SurdError, match=r"build\.json is not valid .*--overwrite"):
        imported(f"authors:{authors_set(tmp_path / 'SURD')}", tmp_path / "build")


def test_an_export_needs_a_known_layout_an_empty_folder_and_a_sound_dataset(build, tmp_path):
    with pytest.raises(SurdError, match="--to is 'zip'; give authors"):
        export(Build(str(build)), "zip", Build(str(tmp_path / "out")))
    with pytest.raises(SurdError, match="is not empty"):
        export(Build(str(build)), "parquet", Build(str(build)))
    with pytest.raises(SurdError, match=r"holds no shards/manifest\.json"):
        export(Build(str(tmp_path)), "parquet", Build(str(tmp_path / "out")))
    shutil.copytree(build, tmp_path / "build")
    shard = tmp_path / "build" / "shards" / "surd-00001.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(SurdError, match=r"surd-00001\.tar: .*cut off.*surd verify"):
        export(Build(str(tmp_path / "build")), "imagefolder", Build(str(tmp_path / "out")))
    assert not (tmp_path / "out" / "train" / "metadata.jsonl").exists()
    manifest = tmp_path / "build" / "shards" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("surd-00000.tar", "../../surd.tar"))
    with pytest.raises(SurdError, match=r"'\.\./\.\./surd\.tar' is not a valid tar name"):
        export(Build(str(tmp_path / "build")), "parquet", Build(str(tmp_path / "other")))


def test_an_export_is_replaced_only_with_overwrite_and_nothing_but_an_export(build, tmp_path):
    dataset, out = Build(str(build)), Build(str(tmp_path / "out [v1]"))
    export(dataset, "imagefolder", out)
    with pytest.raises(SurdError, match=r"is not empty; to replace an export, give --overwrite"):
        export(dataset, "parquet", out)
    assert out.listdir("") == ["train"]
    export(dataset, "parquet", out, overwrite=True)
    assert out.listdir("") == ["data"]
    out.write_bytes("mine.txt", b"mine")
    with pytest.raises(SurdError, match="holds more than an export"):
        export(dataset, "parquet", out, overwrite=True)
    assert out.listdir("") == ["data", "mine.txt"] and [path.name for path in tmp_path.iterdir()] == ["out [v1]"]


def test_an_export_that_fails_leaves_an_earlier_one_whole(build, tmp_path, monkeypatch):
    dataset, out = Build(str(build)), Build(str(tmp_path / "out"))
    export(dataset, "img2dataset", out)
    before = {name: out.read_bytes(name) for name in out.listdir("")}

    def stopped(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(dataset, "img2dataset", out, stopped, overwrite=True)
    assert {name: out.read_bytes(name) for name in out.listdir("")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Bomb:
    """What must never be unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def vectors_at(tmp_path: Path, saved: object) -> Path:
    root = authors_set(tmp_path / "SURD", 2)
    torch.save(saved, root / "prompt2vec" / "13B" / "39.pt")
    return root


def test_a_pt_with_code_in_it_is_refused_and_nothing_runs(tmp_path):
    root = vectors_at(tmp_path, {"simple «0»": Bomb(tmp_path / "ran")})
    with pytest.raises(SurdError, match=r"39\.pt: it cannot be read safely: it holds code \(.*mkdir\)"):
        imported(f"authors:{root}", tmp_path / "out")
    (root / "prompt2vec" / "13B" / "39.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(SurdError, match=r"39\.pt: it cannot be read safely as a file of vectors"):
        imported(f"authors:{root}", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert imported(f"authors:{root}", tmp_path / "out", pooling=None)["kept"] == 2


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ([1, 2], "holds list, not a mapping"),
        ({}, "not a mapping of prompts to tensors"),
        ({"a": 1}, "is not a tensor"),
        ({3: torch.zeros(4)}, "is not a prompt"),
        ({"a": torch.zeros(4, dtype=torch.int64)}, "is not a tensor of float16"),
        ({"a": torch.zeros(1).expand(10**12)}, "claims 1,000,000,000,000 numbers and has fewer"),
        ({"a": torch.zeros(2, 2, 2)}, "has shape"),
        ({"a": torch.tensor([1.0, float("nan")])}, "holds NaN"),
        ({"a": torch.zeros(4), "b": torch.zeros(5)}, "differ in dtype or width"),
        ({"a": torch.zeros(4).half()}, r"no vector for the simple prompt 'simple «0»'"),
    ],
)
def test_a_pt_that_holds_no_vectors_for_the_prompts_is_told_in_one_sentence(tmp_path, saved, sentence):
    root = vectors_at(tmp_path, saved)
    with pytest.raises(SurdError, match=sentence) as raised:
        imported(f"authors:{root}", tmp_path / "out")
    assert "39.pt" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("cut", [0, 30, 700])
def test_a_damaged_pt_is_told(tmp_path, cut):
    path = tmp_path / "39.pt"
    path.write_bytes(vector_file({"a": np.zeros(300, np.float16)}, bfloat16=False)[:cut])
    with pytest.raises(SurdError, match="cannot be read safely as a file of vectors"):
        PromptVectors(path)


def test_vectors_that_share_storage_are_read_each_as_its_own(tmp_path):
    table = torch.arange(12.0).reshape(3, 4)
    torch.save({str(row): table[row] for row in range(3)}, tmp_path / "1.pt")
    found = PromptVectors(tmp_path / "1.pt")
    assert {name: found[name].tolist() for name in found} == {str(row): table[row].tolist() for row in range(3)}
