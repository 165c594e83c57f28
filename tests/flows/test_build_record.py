"""The record of a build holds no secret."""

from __future__ import annotations

from surd.flows.build_record import build_record
from surd.flows.build_request import request_build


def test_a_key_in_the_source_is_not_written_to_the_build(tmp_path):
    source = "gallery:https://ann:pw@x.example/api?sort=New&token=s3cret"
    record = build_record(request_build(out=str(tmp_path), profile=None, parameters={"source": source}))
    assert record.config["source"] == "gallery:https://x.example/api?sort=New"
    assert "s3cret" not in record.model_dump_json() and "pw@" not in record.model_dump_json()
