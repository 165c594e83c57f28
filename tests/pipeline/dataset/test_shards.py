"""The shards of a build are plain webdatasets that hold what the tables say."""

import hashlib
import json
import shutil
import subprocess
import tarfile

import pyarrow.parquet as pq
import pytest
import webdataset as wds
from PIL import Image

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.stages import BY_NAME
from surd.schemas import Cleaned, Corrected, Pair, Safe, Sample, Selected, ShardManifest


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_plain_webdataset_reads_every_selected_sample(built):
    shards = sorted(str(path) for path in (built.root / "shards").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("pil"))
    selection = pq.read_table(built.root / "selection.parquet")["key"].to_pylist()
    assert [sample["__key__"] for sample in samples] == selection == sorted(selection)
    for sample in samples:
        record = Sample.model_validate(sample["json"])
        assert sample["simple.txt"] == record.simple and sample["complex.txt"] == record.complex
        assert isinstance(sample[record.ext], Image.Image)


def test_hugging_face_datasets_reads_every_sample_with_its_picture_and_texts(built, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(built.root), split="train", cache_dir=str(tmp_path / "card"))
    index = pq.read_table(built.root / "shards" / "index.parquet").to_pylist()
    kinds = [name for name in found.column_names if name in ("png", "jpg", "webp")]
    assert len(kinds) > 1, "files of several kinds are in one build"
    for sample, row in zip(found, index, strict=True):
        assert (sample["__key__"], sample["simple.txt"], sample["complex.txt"]) == (
            row["key"],
            row["simple"],
            row["complex"],
        )
        record = Sample.model_validate(sample["json"])
        assert [name for name in kinds if isinstance(sample[name], Image.Image)] == [record.ext]
        assert sample[record.ext].size == (record.width, record.height)
    files = sorted(str(path) for path in (built.root / "shards").glob("*.tar"))
    tars = datasets.load_dataset(
        "webdataset", data_files=files, features=found.features, split="train", cache_dir=str(tmp_path / "tars")
    )
    assert tars["__key__"] == found["__key__"]


def test_the_index_has_a_row_group_a_shard_so_that_each_is_read_alone(built):
    index = pq.ParquetFile(built.root / "shards" / "index.parquet")
    shards = ShardManifest.model_validate_json((built.root / "shards" / "manifest.json").read_bytes()).shards
    groups = [index.read_row_group(number)["shard"].to_pylist() for number in range(index.num_row_groups)]
    assert len(groups) > 1 and groups == [[shard.name] * shard.count for shard in shards]


def test_tar_lists_and_unpacks_the_shards(built, tmp_path):
    for shard in sorted((built.root / "shards").glob("*.tar")):
        listed = subprocess.run(["tar", "-tf", shard], check=True, capture_output=True, text=True).stdout.split()
        assert listed == list(members(shard))
        subprocess.run(["tar", "-xf", shard, "-C", tmp_path], check=True)
    for row in pq.read_table(built.root / "shards" / "index.parquet").to_pylist():
        assert (tmp_path / f"{row['key']}.simple.txt").read_text() == row["simple"]


def test_the_index_has_every_sample_in_order_with_its_prompts_and_every_score(built):
    index = pq.read_table(built.root / "shards" / "index.parquet").to_pylist()
    known = {}
    for part in range(built.build.part_count()):
        for name, model in (("clean", Cleaned), ("safety", Safe), ("correct", Corrected)):
            for row in built.build.read_rows(name, part, model):
                known.setdefault(row.key, {}).update(row.model_dump())
    assert [row["key"] for row in index] == sorted(row["key"] for row in index)
    for row in index:
        for name in ("simple", "complex", "clip_simple", "clip_complex", "text_simple", "nsfw_image", "nsfw_text"):
            assert row[name] == known[row["key"]][name], name
        assert row["clip_simple"] is not None and row["text_simple"] is not None and row["sharpness"] is None


def test_packing_again_gives_the_same_bytes(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built.root, copy)
    BY_NAME["pack"].load()(Build(str(copy)), built.config, Models(built.config.models))
    for file in sorted((built.root / "shards").iterdir()):
        assert (copy / "shards" / file.name).read_bytes() == file.read_bytes()


def test_images_in_the_shards_are_the_original_bytes_at_the_indexed_offset(built):
    index = pq.read_table(built.root / "shards" / "index.parquet").to_pylist()
    assert index
    for row in index:
        data = (built.root / "shards" / row["shard"]).read_bytes()[row["offset"] :][: row["size"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_the_manifest_counts_and_hashes_what_is_there(built):
    manifest = ShardManifest.model_validate_json((built.root / "shards" / "manifest.json").read_text())
    for shard in manifest.shards:
        data = (built.root / "shards" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
        assert sum(name.endswith(".json") for name in members(built.root / "shards" / shard.name)) == shard.count
    rows = [row for part in range(built.build.part_count()) for row in built.build.read_rows("select", part, Selected)]
    assert manifest.count == sum(shard.count for shard in manifest.shards) == sum(row.kept for row in rows)
    assert max(shard.count for shard in manifest.shards) <= built.config.pack.max_count


def test_a_sample_tells_where_it_came_from(built):
    name = next((built.root / "shards").glob("*.tar"))
    documents = [json.loads(data) for member, data in members(name).items() if member.endswith(".json")]
    pairs = {pair.key: pair for part in range(2) for pair in built.build.read_rows("fetch", part, Pair)}
    for document in documents:
        assert document["source"] == "demo" and document["source_id"]
        assert document["sha256"] == pairs[document["key"]].sha256
        assert "127.0.0.1" not in json.dumps(document)
