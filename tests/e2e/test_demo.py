"""``surd demo``: one command from nothing to a trained adapter, and nothing left running."""

import json
import os
import signal
import subprocess

import pytest

from surd.pipeline.build.folder import Build
from tests.e2e.conftest import CHECKOUT, alive

FIELDS = ("demo.count=12", "partition_size=6", "rewrite.enabled=false", "correct.tolerance=1")
SMALL = ("--steps", "2", *(argument for field in FIELDS for argument in ("--param", field)))


@pytest.fixture(scope="module")
def demo(environment, tmp_path_factory):
    """Runs a small demo; gives (folder, stdout lines)."""
    out = tmp_path_factory.mktemp("demo") / "build"

    def run():
        command = ["surd", "demo", "--out", str(out), *SMALL]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        stdout, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert not alive(process.pid), "a daemon was left behind"
        return stdout.splitlines()

    return out, run


def test_the_whole_job_ends_with_its_figures_and_the_second_time_redoes_no_stage(demo):
    out, run = demo
    lines = run()
    figures = json.loads(lines[-1])
    assert figures == json.loads((out / "summary.json").read_text())
    assert figures["collected"] == 12 == figures["kept"] + sum(figures["rejected"].values())
    assert figures["train"]["steps"] == 2 and figures["train"]["loss_first"] > 0
    assert lines[-3:-1] == [f"report: {out / 'report.html'}", f"grid: {out / 'grid.png'}"]
    assert (out / "report.html").exists() and (out / "grid.png").exists()
    effect = figures["effect"]
    assert lines[-4].startswith(f"right by the judge: base {effect['base']}%, adapter {effect['adapter']}%, ")

    shards = {path: path.read_bytes() for path in (out / "shards").iterdir()}
    again = run()
    assert any(line.startswith("nothing to do: all") for line in again)
    assert json.loads(again[-1]) == figures
    assert {path: path.read_bytes() for path in (out / "shards").iterdir()} == shards


@pytest.mark.parametrize(("how", "returned"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_build_leaves_no_daemon_and_keeps_what_is_done(environment, tmp_path, how, returned):
    """Ctrl-C in a terminal reaches every process of the build."""
    command = ["surd", "build", "--out", str(tmp_path / "build"), "--param", "demo.count=6"]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("collect")
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == returned and "Traceback" not in errors
    assert not alive(process.pid), "a daemon was left behind"
    assert Build(str(tmp_path / "build")).marker("collect", 0)
    assert not (tmp_path / "build/report.html").exists()
