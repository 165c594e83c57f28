"""Several processes fetch what one would, ask no host for more than one would, and outlive nobody who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.process_pool import FetchProcesses, processes
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.sources import open_source
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Marker, SourceRecord, SurdError
from tests.pipeline.fetching import picture

pytest_plugins = ["tests.pipeline.served"]

PARTS, EACH = 4, 10


@pytest.mark.parametrize(
    ("fetch", "size", "partitions", "cores", "means"),
    [
        ({}, 1000, 4, 8, 1), ({}, 1000, 7, 8, 1), ({}, 1000, 8, 8, 2), ({}, 1000, 58, 8, 8), ({}, 1000, 58, 2, 2),
        ({}, 10, 58, 8, 1), ({}, 1000, 200, 64, 8), ({"per_host_concurrency": 99}, 1000, 200, 64, 32),
        ({"processes": 3}, 10, 58, 1, 3), ({"processes": 3}, 10, 2, 1, 2), ({"processes": 1}, 1000, 58, 8, 1),
        ({"processes": 3, "concurrency": 2}, 10, 58, 1, 2), ({}, 1000, 0, 8, 1),
    ],
)  # fmt: skip
def test_there_are_as_many_processes_as_have_enough_to_do(monkeypatch, fetch, size, partitions, cores, means):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert processes(BuildConfig(partition_size=size, fetch=fetch), partitions) == means


def collected(root: Path, url: str, **settings) -> BuildConfig:
    """A build of four partitions whose collect is done, and how to fetch it."""
    config = BuildConfig(source=f"gallery:{url}/api", fetch={"retries": 0, **settings})
    build, source = Build(str(root)), open_source(config)
    with build.recording() as outputs:
        for part in range(PARTS):
            paths = [f"/{part * EACH + number}" for number in range(EACH)]
            records = [source._record({"id": path, "url": path}) for path in paths]
            build.write_rows("collect", part, SourceRecord, records)
    marker = Marker(
        stage="collect", part=0, parts=PARTS, fingerprint="-", outputs=outputs, rows=PARTS * EACH, seconds=0
    )
    build.write_marker(marker)
    return config


def fetched(root: Path, config: BuildConfig, several: int) -> dict[str, bytes]:
    with FetchProcesses(several) as beside, ThreadPoolExecutor(several) as threads:
        outcomes = list(threads.map(lambda unit: beside.run_unit(unit, str(root), config), range(PARTS)))
    assert [(outcome.unit, outcome.rows) for outcome in outcomes] == [(unit, EACH) for unit in range(PARTS)]
    return files(root)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "fetch").iterdir() if path.name != "ledger"}


def image(request) -> None:
    request.send(200, picture(seed=int(request.path[1:])), "image/png")


def test_they_write_what_one_process_writes(tmp_path, serve):
    server = serve(image)
    config = collected(tmp_path / "one", server.url)
    for unit in range(PARTS):
        run_unit(BY_NAME["fetch"], unit, str(tmp_path / "one"), config)
    server.requests.clear()
    assert fetched(tmp_path / "two", collected(tmp_path / "two", server.url), 2) == files(tmp_path / "one")
    assert sorted(server.requests) == sorted(f"/{number}" for number in range(PARTS * EACH))


def test_a_host_sees_of_all_of_them_together_no_more_requests_at_once_than_it_may(tmp_path, serve):
    lock, at_once = threading.Lock(), [0]

    def answer(request):
        with lock:
            at_once.append(at_once[-1] + 1)
        time.sleep(0.3)
        with lock:
            at_once.append(at_once[-1] - 1)
        image(request)

    config = collected(tmp_path, serve(answer).url, per_host_concurrency=4)
    fetched(tmp_path, config, 2)
    assert max(at_once) <= 4, "eight, if each took four for itself"


def test_a_host_sees_of_all_of_them_together_no_more_requests_a_second_than_it_may(tmp_path, serve):
    times = []

    def answer(request):
        times.append(time.monotonic())
        image(request)

    fetched(tmp_path, collected(tmp_path, serve(answer).url, per_host_rate=20), 2)
    assert times[-1] - times[0] >= (PARTS * EACH - 1) / 20 - 0.1, "half of that, if each kept a clock of its own"


def stuck(serve) -> tuple[Callable[[], bool], str]:
    """A server that never answers, and whether both processes have asked it."""
    server = serve(lambda request: server.closing.wait(30))
    return lambda: len({int(path[1:]) // EACH for path in server.requests}) == 2, server.url


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from surd.pipeline.runner.process_pool import FetchProcesses
from surd.schemas import BuildConfig

if __name__ == "__main__":
    config = BuildConfig.model_validate_json(sys.argv[2])
    with FetchProcesses(2) as beside, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda unit: beside.run_unit(unit, sys.argv[1], config), range(4)))
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_when_whoever_started_them_is_killed(tmp_path, serve, how):
    both_ask, url = stuck(serve)
    config = collected(tmp_path, url)
    (tmp_path / "script.py").write_text(SCRIPT)
    started = subprocess.Popen([sys.executable, tmp_path / "script.py", str(tmp_path), config.model_dump_json()])
    wait_for(both_ask)
    theirs = [child for child in psutil.Process(started.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(theirs) == 2
    started.send_signal(how)
    assert started.wait(10) == -how
    assert psutil.wait_procs(theirs, timeout=10)[1] == []


def test_one_that_is_killed_is_one_sentence_and_the_others_end(tmp_path, serve):
    both_ask, url = stuck(serve)
    config = collected(tmp_path, url)
    before = {child.pid for child in psutil.Process().children()}
    sentence = r"^fetch: a process was killed .*smaller fetch.processes$"
    with pytest.raises(SurdError, match=sentence), FetchProcesses(2) as beside, ThreadPoolExecutor(2) as threads:
        under_way = [threads.submit(beside.run_unit, unit, str(tmp_path), config) for unit in range(2)]
        wait_for(both_ask)
        mine = [child for child in psutil.Process().children() if child.pid not in before]
        theirs = [child for child in mine if "spawn_main" in " ".join(child.cmdline())]
        theirs[0].kill()
        under_way[0].result()
    assert psutil.wait_procs(theirs, timeout=10)[1] == []
