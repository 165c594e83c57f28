"""compose.yaml and docs/production.md as they stand: a server on PostgreSQL, workers, deployments, builds on them."""

import asyncio
import json
import re
import shlex
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
import yaml
from prefect import settings as prefect_settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.conftest import CHECKOUT
from tests.e2e.postgres import PostgresMissing, postgres
from tests.e2e.prefect_server import prefect_server
from tests.flows.tiny_llm import save_tiny_llm

COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]
PAGE = (CHECKOUT / "docs/production.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
ONCE = LINES[LINES.index("prefect work-pool create surd --type process") :][:4]
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
    """The services of compose.yaml as processes here, after what docs/production.md types once by hand."""
    settings = {name: str(value) for name, value in COMPOSE["server"]["environment"].items()}
    settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    if isinstance(database, PostgresMissing):
        del settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    commands = {name: shlex.split(COMPOSE[name]["command"]) for name in ("server", "worker", "gpu-worker")}
    with prefect_server(tmp_path_factory.mktemp("server"), environment, commands["server"], **settings) as server:
        server.type(*(shlex.split(line)[1:] for line in ONCE))
        counts = {kind: server.count(kind) for kind in ("work_pools", "deployments", "automations")}
        setup = subprocess.run(
            COMPOSE["setup"]["command"], env=server.env, cwd=CHECKOUT, capture_output=True, text=True, timeout=600
        )
        assert setup.returncode == 0, setup.stdout + setup.stderr
        assert (
            counts
            == {kind: server.count(kind) for kind in counts}
            == {
                "work_pools": 1,
                "deployments": 3,
                "automations": 2,
            }
        )
        with server.worker("worker", commands["worker"]), server.worker("gpu-worker", commands["gpu-worker"]):
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


def test_the_workers_of_the_compose_file_are_at_work(prefect):
    deadline = time.monotonic() + 120
    while len(prefect.workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [worker["status"] for worker in prefect.workers()] == ["ONLINE"] * 2
    queues = httpx.post(f"{prefect.url}/work_pools/surd/queues/filter", json={}, timeout=30).raise_for_status().json()
    assert {queue["name"] for queue in queues} == {"default", "gpu"}


@pytest.mark.slow  # a minute; the server, the workers and a build of the page are what the tests above use
def test_every_command_of_the_page_works(prefect, database, tmp_path):
    """What starts a service is a command of the compose file, and was started; docker's two are not run."""
    services = {one["command"] for one in COMPOSE.values() if isinstance(one.get("command"), str)}
    left = [line for line in LINES if line not in ONCE and line.removeprefix("CUDA_VISIBLE_DEVICES=0 ") not in services]
    assert {line.removeprefix("CUDA_VISIBLE_DEVICES=0 ") for line in LINES if line not in left} == {*ONCE, *services}
    assert [line for line in left if line.startswith("docker")] == [
        "docker compose up --detach",
        "docker compose --profile gpu up --detach",
    ]
    typed = []
    for line in left:
        words = shlex.split(line.replace("out=data/", f"out={tmp_path}/"))
        if words[0] == "export":
            assert hasattr(prefect_settings, words[1].partition("=")[0])
        elif words[:3] == ["prefect", "deployment", "run"]:
            typed.append([*words[1:], "--start-in", "1 hour"])
        elif words[0] == "prefect":
            typed.append(words[1:])
        elif words[0] == "pg_dump" and isinstance(database, str):
            words[-1], words[-2] = database.replace("+asyncpg", ""), str(tmp_path / "dump")
            subprocess.run(words, check=True, timeout=120)
        else:
            assert words[:2] == ["surd", "verify"] or words[0] in ("docker", "pg_dump"), line
    assert len(typed) == 8
    stored = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if isinstance(database, str) else {}
    replace(prefect, env=prefect.env | stored).type(*typed)


def test_every_setting_and_file_that_page_and_compose_file_name_exists():
    text = PAGE + (CHECKOUT / "compose.yaml").read_text() + (CHECKOUT / "prefect.yaml").read_text()
    names = set(re.findall(r"\bPREFECT_[A-Z_]+", text))
    assert "PREFECT_API_URL" in names and [name for name in names if not hasattr(prefect_settings, name)] == []
    files = set(re.findall(r"`((?:tests/)?[\w/]+\.(?:py|yaml))`", PAGE))
    assert "compose.yaml" in files and [name for name in files if not (CHECKOUT / name).is_file()] == []
    for one in COMPOSE.values():
        assert set(one.get("depends_on", {})) <= set(COMPOSE)
