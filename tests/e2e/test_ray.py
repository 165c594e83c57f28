"""The same build on a real local Ray cluster: the same bytes as with threads."""

import socket
import subprocess

import pytest

from tests.e2e.conftest import CHECKOUT, running
from tests.e2e.prefect_server import wait_until_healthy

pytest.importorskip("ray", reason="needs the ray extra: pip install -c constraints.txt -e '.[ray]'")
SMALL = ("--param", "demo.count=8", "--param", "partition_size=4", "--param", "rewrite.enabled=false")


@pytest.mark.slow
def test_a_build_on_ray_gives_the_same_shards_as_one_on_threads(environment, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "RAY_USAGE_STATS_ENABLED": "0"}
    log = tmp_path / "server.log"
    with running("prefect", "server", "start", "--port", str(port), log=log, env=env, cwd=tmp_path) as server:
        wait_until_healthy(env["PREFECT_API_URL"], server)
        for runner in ("threads", "ray"):
            command = ["surd", "build", "--out", str(tmp_path / runner), "--param", f"runner={runner}", *SMALL]
            ran = subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=900)
            assert ran.returncode == 0, ran.stdout + ran.stderr
    made = {
        runner: {path.name: path.read_bytes() for path in (tmp_path / runner / "shards").glob("*")}
        for runner in ("threads", "ray")
    }
    assert made["ray"] == made["threads"]
    assert "manifest.json" in made["ray"]
