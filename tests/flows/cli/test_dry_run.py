"""``surd build --dry-run``: what a build would do is said beforehand, and nothing is done."""

import json
import shutil

import pytest

from surd.flows.forecast import forecast
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.pipeline.stages import STAGES


@pytest.fixture
def patient(monkeypatch):
    """Time enough for a machine that is busy with other tests."""
    monkeypatch.setattr(forecast, "__defaults__", (300.0,))


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def planned(out):
    return {work["stage"]: work for work in json.loads(out)["stages"]}


def test_of_a_new_build_it_tells_folder_records_models_and_stages_and_writes_nothing(surd, patient, pictures, tmp_path):
    asked = ("build", "--source", f"folder:{pictures}", "--out", tmp_path / "new", "--dry-run")
    code, out, err = surd(*asked)
    assert (code, err) == (0, "")
    assert f"{tmp_path / 'new'} (a new build)" in out
    assert [line.split() for line in out.splitlines() if line.startswith("records")] == [["records", "6"]]
    assert "nothing of this build has run yet" in out and "0.00 GB" in out
    assert "package:pipeline/demo/models/clip" in out
    found = json.loads(surd(*asked, "--json")[1])
    assert {model["role"]: model["state"] for model in found["models"]}["clip"] == "present"
    assert found["minutes"] is None and {work["to_run"] for work in found["stages"]} == {None}
    assert [work["stage"] for work in found["stages"]] == [stage.name for stage in STAGES]
    assert list(tmp_path.iterdir()) == []


def test_of_a_finished_build_nothing_is_left_also_while_another_run_holds_it(surd, patient, built):
    out, summary = built
    before = tree(out)
    with exclusive(Build(str(out))):
        code, text, err = surd("build", "--out", out, "--dry-run")
        found = json.loads(surd("build", "--out", out, "--dry-run", "--json")[1])
    assert (code, err) == (0, "")
    assert "0: all is done" in text and "remembered" in text
    assert found["records"] == {"count": summary["collected"], "all": True, "limit": None}
    assert found["minutes"] == 0 and {work["to_run"] for work in found["stages"]} == {0}
    assert tree(out).items() >= {path: time for path, time in before.items() if path != out}.items()


def test_a_changed_threshold_redoes_select_and_what_follows_and_the_minutes_are_this_builds_own(surd, patient, built):
    out, _ = built
    before = tree(out)
    found = json.loads(surd("build", "--out", out, "--param", "select.min_clip_simple=0.01", "--dry-run", "--json")[1])
    to_run = [work for work in found["stages"] if work["to_run"] != 0]
    assert [work["stage"] for work in to_run] == ["select", "pack", "embed", "report"]
    assert all(work["seconds"] > 0 for work in to_run) and found["minutes_leave_out"] == []
    total = sum(work["seconds"] for work in to_run)
    assert found["minutes"] == pytest.approx(total / 60, abs=0.01)
    assert {model["role"]: model["needed"] for model in found["models"]}["captioner"] is False
    assert tree(out) == before


def test_one_unfinished_partition_is_told_from_the_finished_ones(surd, patient, built, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(built[0], out)
    Build(str(out)).remove_marker("decode", 1)
    stages = planned(surd("build", "--out", out, "--dry-run", "--json")[1])
    assert stages["fetch"]["to_run"] == 0
    assert (stages["decode"]["done"], stages["decode"]["to_run"]) == (1, 1)
    assert (stages["clean"]["done"], stages["clean"]["to_run"]) == (1, 1)
    assert stages["dedup"]["to_run"] is None and stages["safety"]["to_run"] is None


def test_all_missing_models_are_named_at_once_after_the_plan(surd, patient, tmp_path):
    params = ("--param", "models.clip=./gone", "--param", "models.diffusion=./lost.safetensors")
    code, out, err = surd("build", "--out", tmp_path / "b", *params, "--dry-run", "--json")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("error: 2 models cannot be used: (1) models.clip") and "./lost.safetensors" in err
    states = {model["role"]: model["state"] for model in json.loads(out)["models"]}
    assert states["clip"] == "missing"
    assert list(tmp_path.iterdir()) == []


def test_a_build_names_all_missing_models_too(surd, tmp_path):
    params = ("--param", "models.clip=./gone", "--param", "models.captioner=./lost")
    code, _, err = surd("build", "--out", tmp_path / "b", *params)
    assert code == 2 and "./gone" in err and "./lost" in err and err.count("\n") == 1


def test_json_is_only_for_a_dry_run(surd, tmp_path):
    code, _, err = surd("build", "--out", tmp_path / "b", "--json")
    assert (code, "--dry-run" in err) == (2, True)


def test_what_there_is_no_time_for_is_not_known(built):
    from surd.flows.build_request import request_build

    found = forecast(request_build(out=str(built[0]), profile=None, parameters={}), seconds=0.0)
    assert found.stages is None and found.notes and found.missing == []
    assert not any(model.checked for model in found.models)
