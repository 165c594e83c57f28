"""One record as ``surd inspect`` shows it."""

import math

import pyarrow as pa
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.lookup import lookup, shortest, write_image
from surd.schemas import Cleaned, Pair, SourceRecord, SurdError
from tests.pipeline.report.report_builds import key_of, write_build


def test_numbers_of_single_precision_are_shown_by_their_fewest_digits(tmp_path):
    build = write_build(tmp_path / "b", 1)
    row = Cleaned(key=key_of(0), complex="fox", keywords=["fox", "owl"], weights=[1.4, 0.1])
    build.write_rows("clean", 0, Cleaned, [row])
    table = build.read_table("clean/part-00000.parquet")
    at = table.column_names.index("weights")
    build.write_table(
        "clean/part-00000.parquet", table.set_column(at, "weights", table["weights"].cast(pa.list_(pa.float32())))
    )
    assert lookup(Build(str(tmp_path / "b")), key_of(0))["stages"]["clean"]["weights"] == [1.4, 0.1]
    assert shortest(1.399999976158142) == 1.4
    assert shortest(0.1) == 0.1 and shortest(1e300) == 1e300 and math.isnan(shortest(math.nan))
    assert shortest(float("inf")) == float("inf") and shortest(16777217.0) == 16777217.0


def test_a_record_is_found_by_its_key_url_page_or_id_and_its_picture_is_written_as_fetched(tmp_path):
    build = write_build(tmp_path / "b", 2)
    row = build.read_rows("collect", 0, SourceRecord)[1]
    named = [row.key, row.key[:9], row.url, row.source_id]
    assert [lookup(build, f" {name} ")["key"] for name in named if name] == [row.key] * len(named)
    write_image(build, lookup(build, row.key), tmp_path / "one.png")
    pair = build.read_rows("fetch", 0, Pair)[1]
    assert (tmp_path / "one.png").read_bytes() == next(build.images(0, [pair]))
    with pytest.raises(SurdError, match="--overwrite"):
        write_image(build, lookup(build, row.key), tmp_path / "one.png")
    with pytest.raises(SurdError, match="no record of"):
        lookup(build, "https://elsewhere.example/?token=secret")
