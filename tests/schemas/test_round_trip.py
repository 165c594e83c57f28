"""Rows survive Arrow and Parquet unchanged, whatever a hostile source put into them."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from surd.schemas import BuildConfig, Pair, Reason, Row, SourceRecord, Status, arrow_schema, from_table, to_table
from surd.schemas.config import CONFIG_VERSION
from surd.schemas.json_schema import DOCUMENTS, ROWS, write_json_schemas
from surd.schemas.manifest import FORMAT_VERSION
from surd.schemas.records import RECORD_SCHEMA_VERSION

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
FLOAT32 = st.floats(allow_nan=False, width=32)


def values(annotation, metadata):
    """Any value the field allows, as narrow as its Arrow type."""
    if any(isinstance(item, pa.DataType) for item in metadata) or "float" in str(annotation):
        return st.lists(FLOAT32, max_size=5) if "list" in str(annotation) else FLOAT32
    if "list" in str(annotation):
        return st.lists(TEXT, max_size=5)
    if "bool" in str(annotation):
        return st.booleans()
    if "int" in str(annotation):
        return st.integers(-(2**63), 2**63 - 1)
    return TEXT


def rows(model):
    own = {name: info for name, info in model.model_fields.items() if name not in Row.model_fields}
    fields = {
        name: values(info.annotation, info.metadata) | (st.none() if not info.is_required() else st.nothing())
        for name, info in own.items()
    }
    kept = {"status": st.just(Status.KEPT)}
    rejected = {"status": st.just(Status.REJECTED), "reason": st.sampled_from(Reason), "rejected_by": TEXT}
    key = st.text("0123456789abcdef", min_size=16, max_size=16)
    return st.one_of(
        *(st.builds(model, key=key, detail=TEXT | st.none(), **verdict, **fields) for verdict in (kept, rejected))
    )


@pytest.mark.parametrize("model", [model for model in ROWS if issubclass(model, Row)], ids=lambda m: m.__name__)
def test_any_row_survives_parquet(model):
    @settings(max_examples=25, deadline=None)
    @given(st.lists(rows(model), max_size=4))
    def survives(batch):
        buffer = io.BytesIO()
        pq.write_table(to_table(model, batch), buffer)
        assert from_table(model, pq.read_table(buffer)) == batch

    survives()


@pytest.mark.parametrize("model", [*ROWS, *DOCUMENTS], ids=lambda m: m.__name__)
def test_every_schema_is_written_as_json_schema(model: type[BaseModel], tmp_path):
    paths = write_json_schemas(tmp_path)
    assert tmp_path / f"{model.__name__}.schema.json" in paths
    schema = json.loads((tmp_path / f"{model.__name__}.schema.json").read_text())
    assert set(model.model_fields) == set(schema["properties"])
    documents = {one.__name__ for one in DOCUMENTS[1:]}  # all but the config, which has a version of its own
    others = CONFIG_VERSION if model is BuildConfig else RECORD_SCHEMA_VERSION
    assert schema["x-version"] == (FORMAT_VERSION if model.__name__ in documents else others)


def test_the_reasons_are_written_with_their_meaning(tmp_path):
    write_json_schemas(tmp_path)
    schema = json.loads((tmp_path / "Reason.schema.json").read_text())
    assert schema["enum"] == [reason.value for reason in Reason]
    assert all(schema["x-meaning"][reason] for reason in schema["enum"])


def test_a_table_carries_the_models_name_and_version():
    assert arrow_schema(Pair).metadata == {b"surd.model": b"Pair", b"surd.version": b"2"}


@pytest.mark.parametrize(
    "verdict",
    [{"status": "rejected"}, {"reason": "nsfw"}, {"status": "rejected", "reason": "nsfw"}, {"key": "../../etc/passwd"}],
)
def test_a_row_that_contradicts_itself_is_refused(verdict):
    with pytest.raises(ValidationError):
        SourceRecord.model_validate({"key": "0" * 16, "source": "demo", "source_id": "1"} | verdict)


def test_rejecting_a_row_keeps_its_place_and_says_why():
    row = Pair(key="0" * 16).reject("fetch", Reason.BROKEN_IMAGE, "x" * 1000)
    assert (row.status, row.reason, row.rejected_by) == (Status.REJECTED, Reason.BROKEN_IMAGE, "fetch")
    assert row.detail is not None and len(row.detail) == 500


def test_every_reason_has_a_meaning():
    assert all(len(reason.meaning) > 10 for reason in TypeAdapter(list[Reason]).validate_python(list(Reason)))
