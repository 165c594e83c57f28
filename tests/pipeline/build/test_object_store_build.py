"""A whole build on an object store: the bytes of one here, found done, verified, exported, and trained from."""

from __future__ import annotations

import re
from pathlib import Path

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import load_config
from tests.flows.tiny_llm import save_tiny_llm
from tests.object_store import BUCKET
from tests.pipeline.conftest import redone, run_all

pytest_plugins = ["tests.object_fixtures"]
OWN = re.compile(r"\.journal|\.done\.json|ledger")  # what tells when, or is laid out otherwise there
ROOT = f"s3://{BUCKET}/build"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_build_on_an_object_store_is_the_one_here(objects, tmp_path):
    llm = save_tiny_llm(tmp_path / "llm")
    config = load_config(
        {"models": {"llm": str(llm)}, "rewrite": {"enabled": False}, "caption": {"k": 1}},
        {"demo.count": 8, "partition_size": 4, "embed": {"layers": [1]}, "correct.tolerance": 1.0},
    )
    run_all(tmp_path / "build", config)
    run_all(ROOT, config)
    here, build = Build(str(tmp_path / "build")), Build(ROOT)
    for folder in ("shards", "columns", "fetch", "decode", "dedup", "select"):
        there = {name.removeprefix(f"build/{folder}/"): name for name in objects.names(f"build/{folder}/")}
        wanted = {name: data for name, data in files(tmp_path / "build" / folder).items() if not OWN.search(name)}
        assert wanted.keys() <= there.keys() and all(objects.read(there[name]) == wanted[name] for name in wanted)
    assert not [name for name in objects.names() if ".tmp" in name or "/.shards" in name]
    assert not redone(run_all(ROOT, config)), "a finished build is found done"
    assert summarize(build, [])["kept"] == summarize(here, [])["kept"] > 0
    assert objects.read("build/report.html")
    checked = [*verify(build, read_manifests(build)), *verify_stages(build)]
    assert checked and not [finding for one in checked for finding in one.findings]
