"""A build that is damaged, or made to mislead, is refused by ``surd columns`` in one sentence; nothing is written."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.flows.add_columns import add_columns, list_columns
from surd.schemas import SurdError
from tests.pipeline.finished_sets import files

WANTED = {"embed.columns": ["clip-simple"]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda text: "{",
            r"shards/manifest.json is not a valid shard manifest .*; repair it: surd verify .* --repair",
        ),
        (lambda text: text.replace("surd-00001.tar", "../../out.tar"), r"'../../out.tar' is not a valid tar name"),
    ],
)
def test_a_shard_manifest_that_is_none_or_leads_elsewhere_is_refused(breakable, change, sentence):
    file = breakable / "shards" / "manifest.json"
    file.write_text(change(file.read_text()))
    before = files(breakable.parent)
    with pytest.raises(SurdError, match=sentence):
        add_columns(str(breakable), WANTED, lambda done, all_: None)
    assert files(breakable.parent) == before


def harmed(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.slice(1), "it has 4 samples of surd-00000.tar, not 5"),
        (lambda table: harmed(table, "simple", pa.nulls(12, pa.string())), "a key or prompt in it is not text"),
        (lambda table: harmed(table, "key", pa.array(range(12))), "a key or prompt in it is not text"),
        (lambda table: harmed(table, "simple", pa.array([b"\xff"] * 12).view(pa.string())), "UTF8|UTF-8"),
    ],
    ids=["short", "null", "number", "bytes"],
)
def test_an_index_that_is_not_the_shards_is_refused(breakable, change, sentence):
    file = breakable / "shards" / "index.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(SurdError, match=rf"index.parquet cannot be read for the prompts \(.*({sentence})"):
        add_columns(str(breakable), WANTED, lambda done, all_: None)
    assert not list(breakable.glob("columns/clip-simple/*"))


def test_an_index_of_damaged_bytes_is_refused(breakable):
    file = breakable / "shards" / "index.parquet"
    whole = file.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    file.write_bytes(whole[:footer] + b"\xff" * 20 + whole[footer + 20 :])
    with pytest.raises(SurdError, match=r"index.parquet cannot be read for the prompts"):
        add_columns(str(breakable), WANTED, lambda done, all_: None)


def test_a_build_whose_record_is_cut_is_refused(breakable):
    (breakable / "build.json").write_text('{"config"')
    with pytest.raises(SurdError, match=r"build.json is not valid \(.*\); run the same surd build .*--overwrite"):
        list_columns(str(breakable))
