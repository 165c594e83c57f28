"""A killed build leaves nothing running, its folder is free again, and the next run goes on from what is done."""

import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import psutil
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.schemas import SurdError
from tests.bench.kills import MODES, Killing, a_cluster, with_server


def servers(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "uvicorn" in " ".join(child.cmdline())]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)
    return value


def test_kill_9_of_a_build_ends_its_prefect_server_and_frees_its_folder(tmp_path):
    out = tmp_path / "b"
    command = [sys.executable, "-m", "surd.flows.cli.main", "build", "--out", str(out), "--param", "demo.count=60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as build:
        process = psutil.Process(build.pid)
        wait_for(lambda: Build(str(out)).marker("collect", 0) or build.poll() is not None)
        (server,) = servers(process)
        with pytest.raises(SurdError, match="another run is working"), exclusive(Build(str(out))):
            pass
        build.send_signal(signal.SIGKILL)
        build.wait()
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 30)
    with exclusive(Build(str(out))):
        pass


@pytest.mark.slow
def test_stages_killed_at_random_moments_end_with_the_bytes_of_those_that_were_not(tmp_path):
    outcome = Killing(tmp_path, seed=11002, preload=["surd.pipeline.stages.fetch"]).kill("units", 2)
    assert outcome.sound and outcome.killed.total() == 2, outcome


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "units"])
def test_a_build_or_worker_killed_at_20_random_moments(mode, tmp_path):
    with with_server(tmp_path), a_cluster() if mode == "ray" else nullcontext():
        outcome = Killing(tmp_path, seed=11003).kill(mode, 20)
    assert outcome.sound and outcome.killed.total() == 20 and outcome.finished, outcome
