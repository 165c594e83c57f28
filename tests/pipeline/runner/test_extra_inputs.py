"""What a stage reads in some builds only is part of its fingerprint in those alone."""

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.fingerprint import inputs
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import BY_NAME
from surd.schemas import Marker, load_config

CAPTION = BY_NAME["caption"]


@pytest.fixture
def build(tmp_path):
    """A build of one partition that is done up to safety."""
    build = Build(str(tmp_path / "build"))
    for name in ("collect", "fetch", "decode", "clean", "dedup", "safety"):
        mark(build, name, "a")
    return build


def mark(build, stage, digest):
    outputs = {f"{stage}/part-00000.parquet": digest}
    for output in outputs:
        build.write_bytes(output, b"")
    marker = Marker(stage=stage, part=0, parts=1, fingerprint="", outputs=outputs, rows=0, transient=0, seconds=0)
    build.write_marker(marker)


def of(build, **values):
    config = load_config({}, values)
    return Planner(build, config).fingerprint(CAPTION, 0)


def test_another_cleaning_or_parser_makes_new_captions_only_where_templates_state_the_prompt(build, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\ntemplates: {short: {ask: 'Tags: {keywords}'}}\n")
    config = {"caption.templates": str(own)}
    parsed = {"facts.parser": "another"}
    plain, asked = of(build), of(build, **config)
    assert inputs(CAPTION, load_config({})) == ("fetch", "safety")
    assert inputs(CAPTION, load_config({}, config)) == ("fetch", "safety", "clean")
    assert of(build, **parsed) == plain and of(build, **config, **parsed) != asked
    mark(build, "clean", "b")
    assert of(build) == plain and of(build, **config) != asked
