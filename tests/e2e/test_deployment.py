"""A server on PostgreSQL, a deployment, a worker, and ``prefect deployment run build-surd`` as it is typed."""

import asyncio
import json
from contextlib import ExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.postgres import PostgresMissing, postgres
from tests.e2e.prefect_server import prefect_server
from tests.flows.tiny_llm import save_tiny_llm

SMALL = [
    *("--param", 'demo={"count": 8}', "--param", "partition_size=4"),
    *("--param", 'rewrite={"enabled": false}', "--param", 'caption={"k": 1}', "--param", 'correct={"tolerance": 1}'),
]


@pytest.fixture(scope="module")
def database():
    """The address of a PostgreSQL database, or the reason why there is none: then the server has SQLite."""
    with ExitStack() as running:
        try:
            yield running.enter_context(postgres())
        except PostgresMissing as missing:
            yield missing


@pytest.fixture(scope="module")
def prefect(environment, tmp_path_factory, database):
    """Runs ``prefect`` against a real server with our deployments and a worker started from somewhere else."""
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if isinstance(database, str) else {}
    with prefect_server(tmp_path_factory.mktemp("server"), environment, **settings) as server:
        server.succeed("work-pool", "create", "surd", "--type", "process")
        server.succeed("--no-prompt", "deploy", "--all")
        with server.worker("worker"):
            yield server


def worker_log(prefect):
    return (prefect.logs / "worker.log").read_text()


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
    bare = prefect.run("deployment", "run", "build-surd", *parameters, "--watch")
    assert bare.returncode == 0, worker_log(prefect)
    assert (out / "report.html").exists()
    manifest = json.loads((out / "shards/manifest.json").read_text())
    assert manifest["count"] > 0

    again = [*parameters, "--param", 'report={"samples": 1}', "--watch"]
    full = prefect.run("deployment", "run", "build-surd/build-surd", *again, cwd=tmp_path)
    assert full.returncode == 0, worker_log(prefect)
    assert json.loads((out / "build.json").read_text())["config"]["report"]["samples"] == 1
    assert json.loads((out / "shards/manifest.json").read_text()) == manifest
    log = worker_log(prefect)
    assert "embed: 1 unit(s), 1 already done" in log and "report: 1 unit(s), 0 already done" in log


def test_postgresql_holds_the_runs_of_the_server(prefect, database):
    """After the two builds above."""
    if isinstance(database, PostgresMissing):
        pytest.skip(str(database))

    async def states():
        engine = create_async_engine(database)
        async with engine.connect() as connection:
            rows = await connection.execute(text("select state_name from flow_run where deployment_id is not null"))
        await engine.dispose()
        return [row[0] for row in rows]

    assert asyncio.run(states()) == ["Completed"] * 2
    assert not list(prefect.logs.glob("*.db")), "there is no SQLite file"


def test_elsewhere_the_bare_name_is_prefects_own_error(prefect, tmp_path):
    ran = prefect.run("deployment", "run", "build-surd", cwd=tmp_path)
    assert ran.returncode == 1
    assert "Invalid deployment name format" in ran.stdout + ran.stderr


def test_a_failed_run_exits_1_and_the_worker_shows_the_sentence_without_a_traceback(prefect, tmp_path):
    ran = prefect.run(
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
    log = worker_log(prefect)
    assert f"{tmp_path}/gone" in log
    assert "Traceback" not in log


def test_an_unknown_parameter_is_refused_before_anything_runs(prefect):
    ran = prefect.run("deployment", "run", "build-surd", "--param", "nonsense=1")
    assert ran.returncode == 1
    assert "'nonsense'" in ran.stdout + ran.stderr
    misspelt = prefect.run("deployment", "run", "build-surd", "--param", 'correct={"tolernce": 1}')
    assert misspelt.returncode == 1
    assert "tolernce" in misspelt.stdout + misspelt.stderr
