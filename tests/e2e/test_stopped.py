"""A build that is stopped."""

import os
import signal
import subprocess

import pytest

from surd.pipeline.build.folder import Build
from tests.e2e.conftest import CHECKOUT, alive


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
