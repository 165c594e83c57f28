"""Deployed builds on a real server: one whose worker is lost, and one on a schedule whose source grows."""

import threading
import time
from collections import Counter

import psutil
import pytest
import yaml

from tests.e2e.conftest import CHECKOUT
from tests.e2e.prefect_server import kill_with_children, prefect_server
from tests.flows.pictures import COLOURS, draw_pictures
from tests.flows.tiny_llm import save_tiny_llm

pytest_plugins = ["tests.pipeline.served"]
HEARTBEAT = 30  # seconds, the shortest that Prefect has


@pytest.fixture(scope="module")
def server(environment, tmp_path_factory):
    """A server that looks for missing heartbeats and for scheduled runs every second."""
    fast = {
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    }
    with prefect_server(tmp_path_factory.mktemp("server"), environment, **fast) as server:
        server.succeed("work-pool", "create", "surd", "--type", "process")
        yield server


@pytest.fixture
def pictures(serve, tmp_path):
    """A server of eight pictures that keeps one request, ``held``, waiting until ``go_on`` is set."""
    folder, go_on = draw_pictures(tmp_path / "pictures", 8), threading.Event()

    def answer(request):
        if not request.path.startswith("/picture"):
            return request.send(404)
        if pictures.asked().total() == pictures.held:
            go_on.wait(240)
        return request.send(200, (folder / request.path[1:]).read_bytes(), "image/png")

    pictures = serve(answer)
    pictures.go_on, pictures.held = go_on, 6
    pictures.asked = lambda: Counter(path for path in pictures.requests if path.startswith("/picture"))
    yield pictures
    go_on.set()


@pytest.fixture
def deploy(server, pictures, tmp_path):
    """Deploys the deployment nightly of prefect.yaml under another name, with a list of pictures as its source."""
    listed = tmp_path / "list.csv"
    listed.write_text("url,prompt\n")

    def list_pictures(numbers):
        with listed.open("a") as file:
            file.writelines(f"{pictures.url}/picture-{n}.png,a white box on a {COLOURS[n]} table\n" for n in numbers)

    def deploy(name, schedule=None):
        document = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
        (deployment,) = (one for one in document["deployments"] if one["name"] == "nightly")
        deployment |= {"name": name, "schedules": [schedule] if schedule else []}
        deployment["parameters"] |= {
            "source": f"urls:{listed}",
            "out": str(tmp_path / "build"),
            "partition_size": 4,
            "fetch": {"allow_hosts": ["127.0.0.1"]},
            "models": {"llm": str(save_tiny_llm(tmp_path / "llm"))},
            "embed": {"layers": [1]},
            "rewrite": {"enabled": False},
            "caption": {"k": 1},
            "correct": {"tolerance": 1.0},
        }
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(document | {"deployments": [deployment]}))
        server.succeed("--no-prompt", "deploy", "--all", "--prefect-file", str(tmp_path / "prefect.yaml"))

    deploy.list = list_pictures
    return deploy


def wait_for(condition, server, seconds=600):
    """What ``condition`` gives once it is true; the states of all runs where it never becomes so."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        states = [(run["name"], run["state_name"], run["state"]["message"]) for run in server.flow_runs()]
        logs = {log.name: log.read_text()[-3000:] for log in server.logs.glob("*.log")}
        assert time.monotonic() < end, (states, logs)
        time.sleep(0.5)
    return value


def test_the_build_of_a_lost_worker_continues_on_another_and_is_completed(server, deploy, pictures, tmp_path):
    automations = yaml.safe_load((CHECKOUT / "automations.yaml").read_text())
    lost = automations["automations"][0]["trigger"]
    assert lost["within"] == 3 * HEARTBEAT
    lost["within"] = HEARTBEAT + 15
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(automations))
    server.succeed("automation", "create", "--from-file", str(tmp_path / "automations.yaml"))
    deploy("lost")
    deploy.list(range(8))

    with server.worker("first") as worker:
        server.succeed("deployment", "run", "build-surd/lost")
        wait_for(lambda: pictures.asked().total() >= 6, server)
        children = psutil.Process(worker.pid).children(recursive=True)
        assert any("prefect" in " ".join(child.cmdline()) for child in children), "the build is a child of the worker"
        kill_with_children(worker)
    (run,) = server.flow_runs()
    assert run["state_name"] == "Running", "nobody is left to say that it is lost"
    pictures.go_on.set()

    with server.worker("second"):
        run = wait_for(lambda: next((r for r in server.flow_runs() if r["state_name"] == "Completed"), None), server)
    assert len(server.flow_runs()) == 1 and run["run_count"] == 2, "the same run, a second time"
    asked = pictures.asked()
    assert len(asked) == 8 and asked.total() < 16, "what the first worker fetched is not fetched again"
    assert (tmp_path / "build" / "report.html").exists()


@pytest.mark.slow
def test_the_schedule_of_nightly_skips_a_run_amid_another_and_builds_what_is_new(server, deploy, pictures, tmp_path):
    def runs(state):
        return [run for run in server.flow_runs() if run["state_name"] == state and run["auto_scheduled"]]

    def first_partition():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "build/fetch").glob("part-00000.*")}

    pictures.held = 4
    deploy.list(range(4))  # a whole partition: one that is not full yet is fetched again when it grows
    with server.worker("third"):
        deploy("scheduled", {"interval": 5, "active": True})
        wait_for(lambda: pictures.asked().total() == 4 and runs("Cancelled"), server)
        assert {run["state"]["message"] for run in runs("Cancelled")} == {"Deployment concurrency limit reached."}
        assert len(runs("Running")) == 1 and not runs("Completed")
        pictures.go_on.set()
        wait_for(lambda: runs("Completed"), server)
        built = first_partition()
        deploy.list(range(4, 8))
        wait_for(lambda: len(pictures.asked()) == 8, server)
        finished = len(runs("Completed"))
        wait_for(lambda: len(runs("Completed")) > finished, server)
        server.succeed("deployment", "delete", "build-surd/scheduled")
    assert set(pictures.asked().values()) == {1} and first_partition() == built, "only the new is fetched"
    assert not runs("Failed") and not runs("Crashed")
