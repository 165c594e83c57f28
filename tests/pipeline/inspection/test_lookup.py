"""One record as ``surd inspect`` shows it."""

import math

import pyarrow as pa

from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.lookup import lookup, shortest
from surd.schemas import Cleaned
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
