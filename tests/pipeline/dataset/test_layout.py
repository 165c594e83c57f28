"""A build that is packed again keeps the shards of which no sample went or changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.columns.spec import ColumnSpec
from surd.pipeline.dataset.columns.write import import_column_shard, write_column_shards
from surd.pipeline.dataset.layout import LAYOUT
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.models import Models
from surd.pipeline.stages.pack import pack
from surd.schemas import load_config
from tests.bench.reduces import Records, write_records

FULL = 10  # samples of a shard


class Packed:
    """A build of 45 selected samples in five shards, the last one half full; no model had a part in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.build = root, Build(str(root))
        self.write(45)
        self.pack()

    def write(self, count: int, changed: dict[str, dict[str, str]] | None = None) -> None:
        """The rows of ``count`` records; ``changed``: key -> columns of its row of select or correct."""
        write_records(self.build, Records(count))
        for stage in ("select", "correct"):
            file = part_file(stage, 0)
            table = self.build.read_table(file)
            rows = [row | (changed or {}).get(row["key"], {}) for row in table.to_pylist()]
            columns = [{name: row.get(name) for name in table.column_names} for row in rows]
            self.build.write_table(file, pa.Table.from_pylist(columns, schema=table.schema))

    def pack(self, full: int = FULL) -> None:
        config = load_config({}, {"pack.max_count": full})
        with self.build.recording() as outputs:
            pack(self.build, config, Models(config.models))
        on_disk = {f"shards/{path.name}" for path in self.root.glob("shards/*")}
        assert on_disk == {file for file in outputs if file.startswith("shards/")}
        manifests = read_manifests(self.build)
        findings = [*manifests.findings, *(fault for one in verify(self.build, manifests) for fault in one.findings)]
        assert [str(finding) for finding in findings if finding.file.startswith("shards/")] == []
        assert not (self.root / ".scratch").exists()

    @property
    def tars(self) -> dict[str, tuple[int, bytes]]:
        """Inode and bytes of each tar: a tar that was written again has another inode."""
        return {path.name: (path.stat().st_ino, path.read_bytes()) for path in sorted(self.root.glob("shards/*.tar"))}

    @property
    def keys(self) -> list[list[str]]:
        """Keys of each shard."""
        index = pq.ParquetFile(self.root / "shards" / "index.parquet")
        return [index.read_row_group(number)["key"].to_pylist() for number in range(index.num_row_groups)]


def rejected(*keys: str) -> dict[str, dict[str, str]]:
    return {key: {"status": "rejected", "reason": "below_threshold", "rejected_by": "select"} for key in keys}


@pytest.fixture
def packed(tmp_path) -> Packed:
    return Packed(tmp_path / "build")


def test_new_samples_come_into_new_shards_behind_in_key_order(packed):
    before, keys = packed.tars, packed.keys
    packed.write(60)
    packed.pack()
    assert packed.tars.items() >= before.items() and len(packed.tars) == 7
    assert packed.keys[:5] == keys
    new = [key for shard in packed.keys[5:] for key in shard]
    assert len(new) == 15 and new == sorted(new) and len(packed.keys[5]) == FULL


def test_packing_the_same_again_writes_no_shard(packed):
    before = packed.tars
    packed.pack()
    assert packed.tars == before


def test_a_sample_that_goes_changes_its_shard_alone(packed):
    before, keys = packed.tars, packed.keys
    packed.write(45, rejected(keys[2][4]))
    packed.pack()
    after = packed.tars
    assert [name for name in after if after[name] != before[name]] == ["surd-00002.tar"]
    assert packed.keys[2] == [key for key in keys[2] if key != keys[2][4]]


def test_a_sample_that_changes_stays_in_its_shard(packed):
    before, keys = packed.tars, packed.keys
    packed.write(45, {keys[1][0]: {"simple": "Another sentence."}})
    packed.pack()
    after = packed.tars
    assert [name for name in after if after[name] != before[name]] == ["surd-00001.tar"]
    assert packed.keys == keys


def test_a_score_alone_is_noted_in_the_index_and_writes_no_shard(packed):
    before, keys = packed.tars, packed.keys
    packed.write(45, {keys[1][0]: {"text_simple": 0.25}})
    packed.pack()
    assert packed.tars == before
    index = pq.read_table(packed.root / "shards" / "index.parquet").to_pylist()
    assert [row["key"] for row in index if row["text_simple"] == 0.25] == [keys[1][0]]


def test_shards_less_than_half_full_are_merged_and_numbers_have_no_gap(packed):
    before, keys = packed.tars, packed.keys
    packed.write(45, rejected(*keys[1][:7], *keys[3][:6]))  # three and four are left
    packed.pack()
    after = packed.tars
    assert list(after) == ["surd-00000.tar", "surd-00001.tar", "surd-00002.tar", "surd-00003.tar"]
    assert packed.keys[1] == keys[4] and after["surd-00001.tar"] == before["surd-00004.tar"]  # moved, not written
    assert packed.keys[3] == sorted(keys[1][7:] + keys[3][6:])
    assert [after[name] == before[name] for name in after] == [True, False, True, False]


def test_without_its_shards_a_build_is_laid_out_as_one_from_scratch(packed, tmp_path):
    packed.write(60)
    packed.pack()
    shutil.rmtree(packed.root / "shards")
    packed.pack()
    keys = [key for shard in packed.keys for key in shard]
    assert keys == sorted(keys) and [len(shard) for shard in packed.keys] == [FULL] * 6


def test_shards_that_no_longer_fit_the_config_are_laid_out_anew(packed):
    packed.pack(full=6)
    keys = [key for shard in packed.keys for key in shard]
    assert keys[:42] == sorted(keys)[:42] or len(packed.keys[0]) <= 6
    assert max(map(len, packed.keys)) <= 6


def test_shards_packed_before_layouts_were_noted_stay_as_well(packed):
    before = packed.tars
    (packed.root / LAYOUT).unlink()
    packed.write(60)
    packed.pack()
    assert packed.tars.items() >= before.items()


@pytest.mark.parametrize("noted", [True, False], ids=["with a layout", "without a layout"])
def test_a_tar_that_was_cut_is_written_again(packed, noted):
    before = packed.tars
    (packed.root / "shards" / "surd-00002.tar").write_bytes(before["surd-00002.tar"][1][:700])
    if not noted:
        (packed.root / LAYOUT).unlink()
    packed.pack()
    after = packed.tars
    assert {name for name in after if after[name] != before[name]} == {"surd-00002.tar"}
    assert after["surd-00002.tar"][1] == before["surd-00002.tar"][1]


def test_columns_of_a_shard_that_stays_are_not_computed_again(packed):
    models = Models(load_config({}).models)
    column = ColumnSpec(kind="llm", model=models.config.ref("embed_llm"), text="simple", layer=1, pooling="mean")
    for number in range(5):
        import_column_shard(packed.build, number, column, lambda text: np.zeros(3, np.float32), models)
    tars = {path.name: path.stat().st_ino for path in packed.root.glob("columns/*/*.tar")}
    packed.write(60)
    packed.pack()
    for number in range(5):
        write_column_shards(packed.build, number, [column], load_config({}).embed, models)
    assert {path.name: path.stat().st_ino for path in packed.root.glob("columns/*/*.tar")} == tars
