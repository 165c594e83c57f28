"""A real Prefect server for tests, its command line, and workers that can be killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.conftest import CHECKOUT, running

START = ("prefect", "server", "start")


@dataclass(frozen=True)
class PrefectServer:
    """``env`` is for programs that talk to the server; ``logs`` is a folder for what they print."""

    url: str
    env: dict[str, str]
    logs: Path

    def run(self, *arguments: str, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
        """``prefect`` with these arguments."""
        return subprocess.run(
            ["prefect", *arguments],
            env=self.env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def succeed(self, *arguments: str, cwd: Path = CHECKOUT) -> None:
        """``prefect`` with these arguments, which must end well."""
        done = self.run(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr

    def type(self, *lines: Sequence[str]) -> None:
        """Several commands of ``prefect`` in one process, which takes a second to start; each must end well."""
        program = (
            "import json, sys\n"
            "from prefect.cli import app\n"
            "for words in json.load(sys.stdin):\n"
            "    print(words, flush=True)\n"
            "    try:\n"
            "        sys.argv[1:] = words\n        app()\n"
            "    except SystemExit as end:\n"
            "        if end.code:\n"
            "            raise\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(lines), env=self.env, cwd=CHECKOUT, capture_output=True,
            text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def worker(self, name: str, command: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of the pool surd, started from somewhere else than the checkout; it prints to ``logs/NAME.log``."""
        command = command or ("prefect", "worker", "start", "--pool", "surd", "--name", name)
        with running(*command, log=self.logs / f"{name}.log", env=self.env, cwd=self.logs) as process:
            yield process

    def flow_runs(self) -> list[dict[str, Any]]:
        """Every flow run of the server, the earliest first."""
        answer = httpx.post(f"{self.url}/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=30)
        return list(answer.raise_for_status().json())

    def workers(self) -> list[dict[str, Any]]:
        """The workers of the pool surd that the server knows."""
        answer = httpx.post(f"{self.url}/work_pools/surd/workers/filter", json={}, timeout=30)
        return list(answer.raise_for_status().json())

    def count(self, kind: str) -> int:
        """How many deployments, automations or work_pools there are."""
        return int(httpx.post(f"{self.url}/{kind}/count", json={}, timeout=30).raise_for_status().json())


@contextmanager
def prefect_server(
    folder: Path, environment: Mapping[str, str], command: Sequence[str] = START, **settings: str
) -> Iterator[PrefectServer]:
    """A server on a free port that has its data in ``folder``; ``settings`` go into its environment."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = {**environment, "PREFECT_API_URL": url, "PREFECT_HOME": str(folder), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    here = {"PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}
    with running(*command, log=folder / "server.log", env=env | settings | here, cwd=folder) as server:
        wait_until_healthy(url, server)
        yield PrefectServer(url, env, folder)


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError if the server ends, or does not answer in four minutes."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the Prefect server did not start")


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """As a machine that loses its power: a process and all that it started are gone at once."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.send_signal(signal.SIGKILL)
