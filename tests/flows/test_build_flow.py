"""The flow build-surd: every record accounted for, nothing done twice, no failure lost."""

import json
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import islice
from uuid import UUID

import cloudpickle
import pytest
import stamina
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ParameterBindError, SignatureMismatchError
from prefect.runtime import flow_run

import surd.flows.build as build_module
import surd.flows.run_stages as run_stages_module
from surd.flows.build import build_surd
from surd.flows.chains import chains
from surd.flows.windows import RETRIES, run_one, run_windows
from surd.pipeline.build.folder import Build
from surd.pipeline.runner import run_unit as stages
from surd.pipeline.runner.run_unit import Outcome
from surd.schemas import BuildConfig, BuildRecord, SurdError

HAS_RAY = find_spec("ray") is not None


def ended(**parameters):
    """The state the flow ends in, and what it holds."""
    state = build_surd(**parameters, return_state=True)
    return state, state.result(raise_on_failure=False)


def test_every_record_is_kept_or_rejected_for_a_reason(built):
    out, summary = built
    assert summary["collected"] == 6
    assert summary["kept"] + sum(summary["rejected"].values()) == 6
    assert summary["rejected"].get("no_prompt") == 1
    assert summary["report"] == str(out / "report.html")
    assert (out / "report.html").exists()


def test_the_flows_parameters_are_the_fields_of_the_config(built):
    fields = set(BuildConfig.model_fields) - {"schema_version"}
    assert set(build_surd.parameters.properties) == fields | {"profile", "out", "refresh", "overwrite"}


def test_every_parameter_of_the_flow_has_a_description():
    assert [name for name, shown in build_surd.parameters.properties.items() if not shown.get("description")] == []


def test_every_parameter_of_the_flow_reaches_the_config(monkeypatch):
    fields = {name: object() for name in BuildConfig.model_fields if name != "schema_version"}
    passed = []

    def request_build(*, profile, parameters, **_):
        passed.append((profile, parameters))
        raise SurdError("enough")

    monkeypatch.setattr(build_module, "request_build", request_build)
    build_surd.fn(profile="small", **fields)
    assert passed == [("small", fields)]


def test_an_unknown_parameter_is_rejected():
    with pytest.raises((SignatureMismatchError, ParameterBindError, TypeError)):
        build_surd(nonsense=1)


def test_the_build_records_what_it_was_made_with(built):
    out, _ = built
    record = BuildRecord.model_validate_json((out / "build.json").read_bytes())
    assert record.config["partition_size"] == 3
    assert set(record.models) == {"clip", "captioner", "llm", "embed_llm", "diffusion", "vqa"}
    assert record.versions["prefect"] == sys.modules["prefect"].__version__


def test_a_second_run_skips_everything_and_loads_no_model(built, parameters, monkeypatch):
    out, first = built
    monkeypatch.setattr(stages.Stage, "load", lambda self: pytest.fail(f"{self.name} was run again"))
    second = build_surd(out=str(out), **parameters)
    assert second["run_units"] == 0
    assert second["skipped_units"] == first["run_units"]
    assert {name: second[name] for name in ("collected", "kept", "rejected")} == {
        name: first[name] for name in ("collected", "kept", "rejected")
    }


def test_a_refresh_reads_the_source_and_redoes_nothing_where_it_gives_the_same(built, parameters, tmp_path):
    out = shutil.copytree(built[0], tmp_path / "copy")
    again = build_surd(out=str(out), **parameters, refresh=True)
    assert (again["run_units"], again["kept"]) == (1, built[1]["kept"]), "collect alone"


def test_a_part_of_a_section_changes_that_field_alone(built, parameters, tmp_path):
    out = shutil.copytree(built[0], tmp_path / "copy")
    again = build_surd(out=str(out), **parameters, report={"samples": 2})
    assert again["run_units"] == 1
    record = json.loads((out / "build.json").read_text())
    assert record["config"]["report"] == BuildConfig().report.model_dump() | {"samples": 2}


def test_fetch_in_two_processes_gives_the_same_shards(built, parameters, tmp_path, monkeypatch):
    counts, real = [], run_stages_module.FetchProcesses
    monkeypatch.setattr(run_stages_module, "FetchProcesses", lambda count: counts.append(count) or real(count))
    out = shutil.copytree(built[0], tmp_path / "copy")
    shards = {path.name: path.read_bytes() for path in out.glob("shards/*.tar")}
    for path in out.glob("fetch/*"):
        path.unlink()
    summary = build_surd(**parameters | {"fetch": {"processes": 2}}, out=str(out))
    assert counts == [2] and summary["kept"] == built[1]["kept"]
    assert {path.name: path.read_bytes() for path in out.glob("shards/*.tar")} == shards


def test_the_prefect_page_shows_progress_funnel_and_report(built):
    out, summary = built

    def shown(key):
        with get_client(sync_client=True) as client:
            artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
        return [artifact.data for artifact in artifacts]

    funnel = {"collected": 6, "kept": summary["kept"], **summary["rejected"]}
    assert 100.0 in shown("surd-progress")
    assert funnel in [{row["rows"]: row["count"] for row in json.loads(table)} for table in shown("surd-funnel")]
    hosts = {"host": "(the source)", "images": 6, "kept": "100 %", "reasons": ""}
    assert [hosts] in [[row | hosts for row in json.loads(table) if row.pop("MB") < 1] for table in shown("surd-fetch")]
    assert any(str(out / "report.html") in link for link in shown("surd-report"))
    assert any(str(out / "report.html") in text for text in shown("surd-summary"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"source": "folder:/no/such/folder"}, "/no/such/folder"),
        ({"source": "nonsense"}, "nonsense"),
        ({"models": {"clip": "/no/such/model"}}, "/no/such/model"),
        ({"profile": "dmo"}, "did you mean 'demo'"),
        ({"out": "/proc/surd"}, "'/proc/surd' and cannot be written"),
        pytest.param({"runner": "ray"}, "ray", marks=pytest.mark.skipif(HAS_RAY, reason="the ray extra is installed")),
        ({"partition_size": 0}, "'partition_size' is 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_users_mistake_ends_the_run_with_one_sentence_and_no_traceback(
    parameters, tmp_path, wrong, sentence, caplog, capfd
):
    with caplog.at_level(logging.INFO):
        state, error = ended(**({"out": str(tmp_path / "b")} | parameters | wrong))
    assert state.is_failed()
    assert isinstance(error, SurdError)
    assert sentence in str(error)
    assert state.message == str(error)
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_an_empty_folder_ends_with_one_sentence_and_keeps_the_earlier_build(built, parameters, tmp_path):
    (tmp_path / "empty").mkdir()
    out = shutil.copytree(built[0], tmp_path / "copy")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".tmp"}
    _, error = ended(**parameters | {"source": f"folder:{tmp_path / 'empty'}", "out": str(out)})
    assert isinstance(error, SurdError)
    assert str(tmp_path / "empty") in str(error)
    lost = {
        str(path.relative_to(out)) for path, data in before.items() if not path.exists() or path.read_bytes() != data
    }
    assert lost == set()


class TestAFailingUnit:
    """One partition of three fails in the stage clean."""

    @pytest.fixture
    def fail_with(self, monkeypatch):
        tried = []
        real = run_stages_module.run_unit

        def plant(error, times=99):
            def run(stage, unit, root, config, task):
                tried.append((stage.name, unit))
                if (stage.name, unit) == ("clean", 0) and tried.count(("clean", 0)) <= times:
                    raise error
                return real(stage, unit, root, config, task)

            monkeypatch.setattr(run_stages_module, "run_unit", run)
            return tried

        with stamina.set_testing(True, attempts=RETRIES + 1):  # it does not wait
            yield plant

    def test_fails_the_flow_and_lets_its_neighbours_finish(self, fail_with, parameters, tmp_path):
        tried = fail_with(ZeroDivisionError("a bug"))
        state, error = ended(**parameters, out=str(tmp_path / "b"))
        assert state.is_failed() and isinstance(error, ZeroDivisionError)
        assert ("clean", 1) in tried
        assert Build(str(tmp_path / "b")).marker("clean", 1)
        assert "dedup" not in {stage for stage, _ in tried}

    def test_a_bug_is_not_retried(self, fail_with, parameters, tmp_path):
        tried = fail_with(ZeroDivisionError("a bug"))
        ended(**parameters, out=str(tmp_path / "b"))
        assert tried.count(("clean", 0)) == 1

    def test_nor_is_a_users_mistake(self, fail_with, parameters, tmp_path):
        tried = fail_with(SurdError("clean is wrong; correct it"))
        state, _ = ended(**parameters, out=str(tmp_path / "b"))
        assert tried.count(("clean", 0)) == 1
        assert state.message == "clean is wrong; correct it"

    def test_a_disk_fault_is_retried_and_succeeds(self, fail_with, parameters, tmp_path, monkeypatch):
        tried = fail_with(OSError("stale file handle"), times=2)
        monkeypatch.setattr(build_module, "chains", lambda config: islice(chains(config), 2))  # up to clean
        monkeypatch.setattr(build_module, "check_kept", lambda *_: None)
        monkeypatch.setattr(build_module, "summarize", lambda build, outcomes: {"units": len(outcomes)})
        monkeypatch.setattr(build_module, "publish_result", lambda summary: None)
        state, _ = ended(**parameters, out=str(tmp_path / "b"))
        assert state.is_completed()
        assert tried.count(("clean", 0)) == 3


def test_a_stage_of_300_units_has_two_task_runs_and_every_outcome(tmp_path):
    threads, outcomes = ThreadPoolExecutor(4), []

    @flow
    def windows_of_300():
        def journey(unit):
            run = partial(Outcome, stage="clean", unit=unit, skipped=False, rows=0, seconds=0)
            outcomes.append((yield threads.submit(run)))

        run_windows("clean", range(300), journey)
        return flow_run.id

    only = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(windows_of_300())]))
    with get_client(sync_client=True) as client:
        names = sorted(run.name for run in client.read_task_runs(flow_run_filter=only))
    assert names == ["clean-0-255", "clean-256-299"]
    assert sorted(outcome.unit for outcome in outcomes) == list(range(300))


def test_what_runs_a_unit_can_be_sent_to_another_machine():
    program = "import cloudpickle, sys; print(cloudpickle.load(sys.stdin.buffer)[1].func.__name__)"
    data = cloudpickle.dumps((run_one, partial(run_stages_module._run_unit, "clean"), 0, "root", BuildConfig()))
    ran = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert ran.stdout.split() == [b"_run_unit"]
