"""Tasks that run at once spread over the GPUs; a GPU or a cluster that is not there ends the build in one sentence."""

import socket
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch

from surd.flows.devices import gpu_roles, placed, thread_devices
from surd.flows.ray_address import check_address
from surd.flows.ray_cluster import check_devices
from surd.schemas import SurdError, load_config


def config(**values):
    return load_config({}, values)


def test_workers_spread_over_the_gpus_and_each_has_its_own_while_it_runs():
    wanted = config(workers=4)
    devices, barrier, taken = thread_devices(wanted, "score", 2), Barrier(4), []

    def work():
        with placed(wanted, devices) as own:
            barrier.wait()
            taken.append(own.models.device)

    for _ in range(3):
        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
        taken.clear()


@pytest.mark.parametrize(
    ("values", "stage", "gpus"),
    [
        ({"workers": 4}, "score", 1),
        ({"workers": 1}, "score", 2),
        ({"workers": 4, "models.device": "cuda:1"}, "score", 2),
        ({"workers": 4, "models.device": "cpu"}, "score", 2),
        ({"workers": 4}, "fetch", 2),
    ],
)
def test_where_there_is_nothing_to_spread_the_config_stays_as_it_is(values, stage, gpus):
    assert thread_devices(config(**values), stage, gpus) is None
    with placed(config(**values), None) as own:
        assert own == config(**values)


def test_a_stage_asks_for_a_gpu_if_a_model_of_it_can_use_one():
    assert gpu_roles(config(), "score") == ["clip"]
    assert gpu_roles(config(), "safety") == [], "open_nsfw runs on the CPU"
    assert gpu_roles(config(), "decode") == []
    assert gpu_roles(config(**{"models.llm": "openai:http://localhost:1/v1#m"}), "rewrite") == []
    assert gpu_roles(config(**{"models.devices": {"captioner": "cpu"}}), "caption") == []


@pytest.mark.parametrize(
    ("values", "gpus", "sentence"),
    [
        ({"models.device": "cuda"}, 0, r"models\.device is 'cuda': the Ray cluster has no GPU; use auto or cpu"),
        ({"models.device": "cuda:1"}, 2, r"models\.device is 'cuda:1': a task on Ray sees only the GPU .*; use cuda"),
        ({"models.devices": {"clip": "cuda"}}, 0, r"models\.devices\.clip is 'cuda': the Ray cluster has no GPU"),
    ],
)
def test_a_gpu_that_no_task_on_the_cluster_can_have_is_one_sentence(values, gpus, sentence):
    with pytest.raises(SurdError, match=sentence):
        check_devices(config(**values), gpus)
    check_devices(config(), gpus)


@pytest.fixture
def silent_port():
    """A port where something listens that never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch, silent_port, form):
    monkeypatch.setenv("RAY_ADDRESS", form.format(silent_port))
    with pytest.raises(SurdError, match=r"RAY_ADDRESS is .*: no Ray cluster answers there \(what listens .* not Ray"):
        check_address()
    monkeypatch.setenv("RAY_ADDRESS", form.format(1))
    with pytest.raises(SurdError, match=r"Connection refused"):
        check_address()
    for odd in ("nonsense", "host:port"):
        monkeypatch.setenv("RAY_ADDRESS", odd)
        with pytest.raises(SurdError, match=r"it is not HOST:PORT"):
            check_address()


def surd_build(tmp_path, *params):
    """What ``surd build`` ends with."""
    command = [str(Path(sys.executable).with_name("surd")), "build", "--out", str(tmp_path / "b")]
    return subprocess.run([*command, *params], capture_output=True, text=True, timeout=300)


def test_the_command_ends_before_its_first_stage_where_there_is_no_such_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ran = surd_build(tmp_path, "--param", "runner=ray")
    assert ran.returncode == 2, ran.stderr
    assert "RAY_ADDRESS is '127.0.0.1:1': no Ray cluster answers there" in " ".join((ran.stdout + ran.stderr).split())
    assert "Traceback" not in ran.stderr and not (tmp_path / "b" / "collect").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_command_ends_before_its_first_stage_where_there_is_no_gpu(tmp_path):
    ran = surd_build(tmp_path, "--param", "models.device=cuda")
    assert ran.returncode == 2, ran.stderr
    assert "models.device is 'cuda'" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr and not (tmp_path / "b" / "collect").exists()
