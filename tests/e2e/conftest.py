"""The long way: programs as a user starts them, with a Prefect of their own, and nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """The user's, but with a Prefect home of its own, no server configured, and our programs first on the path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "COLUMNS": "200",
    }


@contextmanager
def running(*command: str, log: Path, env: dict[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, in a process group of its own; the whole group is ended afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env, cwd=cwd, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
