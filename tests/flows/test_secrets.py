"""Passwords and keys of a source are neither in Prefect's database nor in the build, also if the run fails."""

import sqlite3
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from surd.flows.build import build_surd, make_flow
from surd.flows.build_record import without_secrets
from surd.flows.build_request import request_build
from surd.flows.listener import SILENT

PASSWORD, KEY = "pw0rd5", "k3y5s3cret"
SOURCE = f"gallery:http://ann:{PASSWORD}@127.0.0.1:9/api?token={KEY}&sort=New"
QUICK = {"collect": {"retries": 0}, "rewrite": {"enabled": False}}


def stored_texts() -> str:
    """Everything that the test server has stored."""
    url = get_current_settings().server.database.connection_url.get_secret_value()
    with sqlite3.connect(Path(url.partition("///")[2].partition("?")[0])) as database:
        return "\n".join(database.iterdump())


def test_a_deployments_run_keeps_no_secret_of_its_parameters(tmp_path):
    state = build_surd(source=SOURCE, out=str(tmp_path / "b"), **QUICK, return_state=True)
    assert state.is_failed() and "127.0.0.1" in state.message
    texts = stored_texts()
    assert "127.0.0.1:9/api?sort=New" in texts
    assert PASSWORD not in texts and KEY not in texts


def test_nor_does_a_run_of_the_command_line(tmp_path):
    request = request_build(out=str(tmp_path / "b"), profile=None, parameters={"source": SOURCE} | QUICK)
    fields = without_secrets(request.config.model_dump(mode="json", exclude={"schema_version"}), [])
    state = make_flow(SILENT, request)(profile="demo", out=request.out, **fields, return_state=True)
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        assert KEY not in "".join(run.model_dump_json() for run in client.read_flow_runs())
    assert PASSWORD not in stored_texts()
