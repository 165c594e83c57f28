"""A finished dataset on an object store is verified, exported and trained from as one here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sur_adapter.data.shard_dataset import ShardDataset
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import LAYOUTS, export
from surd.pipeline.dataset.export.options import RECORD, TrainerOptions
from tests.object_store import BUCKET
from tests.pipeline.finished_sets import findings

pytest_plugins = ["tests.object_fixtures"]
ROOT = f"s3://{BUCKET}/build"


@pytest.fixture
def stored(objects, imported_set) -> Build:
    for name, data in tree(imported_set).items():
        objects.client.put_object(Bucket=BUCKET, Key=f"build/{name}", Body=data)
    return Build(ROOT)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_verified_there(objects, stored):
    assert findings(ROOT) == []
    tar = objects.read("build/shards/surd-00000.tar")
    stored.write_bytes("shards/surd-00000.tar", tar[:-2000])
    assert {finding.file for finding in findings(ROOT)} == {"shards/surd-00000.tar"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_exported_from_there_to_there(objects, stored, imported_set, tmp_path, layout):
    count = export(Build(str(imported_set)), layout, Build(str(tmp_path / "out")))
    assert export(stored, layout, Build(f"s3://{BUCKET}/exports/out")) == count
    there = {name.removeprefix("exports/out/"): objects.read(name) for name in objects.names("exports/")}
    assert there == tree(tmp_path / "out")


@pytest.mark.parametrize("trainer", ["kohya", "onetrainer"])
def test_a_trainers_folder_there_names_its_own_files_relative_to_itself(objects, stored, tmp_path, trainer):
    here = TrainerOptions(root=".", caption="both")
    count = export(stored, trainer, Build(str(tmp_path / "out")), options=here)
    there = Build(f"s3://{BUCKET}/exports/out")
    for _ in range(2):  # the second replaces the first
        assert export(stored, trainer, there, overwrite=True, options=TrainerOptions(caption="both")) == count
    found = {name.removeprefix("exports/out/"): objects.read(name) for name in objects.names("exports/")}
    expected = tree(tmp_path / "out")
    assert {name: found[name] for name in found if name != RECORD} == {
        name: expected[name] for name in expected if name != RECORD
    }
    assert RECORD in found


def test_it_is_trained_from_there(stored, imported_set, tmp_path):
    shards = "shards/surd-{00000..00002}.tar"
    far = ShardDataset(f"{ROOT}/{shards}", columns=["llm-13b-l39"], cache=tmp_path / "cache")
    near = ShardDataset(str(imported_set / shards), columns=["llm-13b-l39"])
    options = {"batch_size": 4, "seed": 0, "image_size": 32, "epochs": 1}
    batches = [
        [(batch.keys, batch.images_BCHW, batch.llm_BW) for batch in data.loader(**options)] for data in (far, near)
    ]
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        assert one[0] == other[0] and all(bool((a == b).all()) for a, b in zip(one[1:], other[1:], strict=True))
