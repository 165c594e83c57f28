"""The record of a build holds no secret."""

from __future__ import annotations

from surd.flows.build_record import build_record
from surd.schemas import BuildConfig


def test_a_key_in_the_source_is_not_written_to_the_build(tmp_path):
    config = BuildConfig(source="gallery:https://ann:pw@x.example/api?sort=New&token=s3cret")
    record = build_record(config, str(tmp_path))
    assert record.config["source"] == "gallery:https://x.example/api?sort=New"
    assert "s3cret" not in record.model_dump_json() and "pw@" not in record.model_dump_json()
