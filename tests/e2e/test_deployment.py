"""A server, a deployment, a worker, and ``prefect deployment run build-surd`` as it is typed."""

import json
import socket
import subprocess
import time

import httpx
import pytest

from tests.e2e.conftest import CHECKOUT, running
from tests.flows.tiny_llm import save_tiny_llm

SMALL = [
    *("--param", 'demo={"count": 8}', "--param", "partition_size=4"),
    *("--param", 'rewrite={"enabled": false}', "--param", 'caption={"k": 1}', "--param", 'correct={"tolerance": 1}'),
]


@pytest.fixture(scope="module")
def prefect(environment, tmp_path_factory):
    """Runs ``prefect`` against a real server with our deployment and a worker started from somewhere else."""
    logs = tmp_path_factory.mktemp("logs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_WORKER_QUERY_SECONDS": "1"}

    def run(*arguments, cwd=CHECKOUT):
        return subprocess.run(
            ["prefect", *arguments],
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    run.worker_log = logs / "worker.log"
    with running(
        "prefect", "server", "start", "--port", str(port), log=logs / "server.log", env=env, cwd=logs
    ) as server:
        wait_until_healthy(env["PREFECT_API_URL"], server)
        for step in (("work-pool", "create", "surd", "--type", "process"), ("--no-prompt", "deploy", "--all")):
            done = run(*step)
            assert done.returncode == 0, done.stdout + done.stderr
        with running("prefect", "worker", "start", "--pool", "surd", log=run.worker_log, env=env, cwd=logs):
            yield run


def wait_until_healthy(url, server):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail("the Prefect server did not start")


def test_the_bare_name_works_in_a_checkout_and_the_full_name_anywhere(prefect, tmp_path):
    out, llm = tmp_path / "build", save_tiny_llm(tmp_path / "llm")
    parameters = [
        *SMALL,
        "--param",
        f"out={out}",
        "--param",
        f'models={{"llm": "{llm}"}}',
        "--param",
        'embed={"layers": [1]}',
    ]
    bare = prefect("deployment", "run", "build-surd", *parameters, "--watch")
    assert bare.returncode == 0, prefect.worker_log.read_text()
    assert (out / "report.html").exists()
    manifest = json.loads((out / "shards/manifest.json").read_text())
    assert manifest["count"] > 0

    again = [*parameters, "--param", 'report={"samples": 1}', "--watch"]
    full = prefect("deployment", "run", "build-surd/build-surd", *again, cwd=tmp_path)
    assert full.returncode == 0, prefect.worker_log.read_text()
    assert json.loads((out / "build.json").read_text())["config"]["report"]["samples"] == 1
    assert json.loads((out / "shards/manifest.json").read_text()) == manifest
    log = prefect.worker_log.read_text()
    assert "embed: 1 unit(s), 1 already done" in log and "report: 1 unit(s), 0 already done" in log


def test_elsewhere_the_bare_name_is_prefects_own_error(prefect, tmp_path):
    ran = prefect("deployment", "run", "build-surd", cwd=tmp_path)
    assert ran.returncode == 1
    assert "Invalid deployment name format" in ran.stdout + ran.stderr


def test_a_failed_run_exits_1_and_the_worker_shows_the_sentence_without_a_traceback(prefect, tmp_path):
    ran = prefect(
        "deployment",
        "run",
        "build-surd",
        "--param",
        f"source=folder:{tmp_path}/gone",
        "--param",
        f"out={tmp_path}/b",
        "--watch",
    )
    assert ran.returncode == 1
    log = prefect.worker_log.read_text()
    assert f"{tmp_path}/gone" in log
    assert "Traceback" not in log


def test_an_unknown_parameter_is_refused_before_anything_runs(prefect):
    ran = prefect("deployment", "run", "build-surd", "--param", "nonsense=1")
    assert ran.returncode == 1
    assert "'nonsense'" in ran.stdout + ran.stderr
    misspelt = prefect("deployment", "run", "build-surd", "--param", 'correct={"tolernce": 1}')
    assert misspelt.returncode == 1
    assert "tolernce" in misspelt.stdout + misspelt.stderr
