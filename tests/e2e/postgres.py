"""A PostgreSQL server of its own in a scratch folder, from the binaries that this machine has."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USER = "surd"


class PostgresMissing(Exception):
    """PostgreSQL is not installed, or cannot run as the user of the tests; says why."""


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, as Prefect takes it. Raises PostgresMissing.

    It listens on a socket in its folder alone, so that no port can be taken. That folder is a short path below the
    system's temporary one, because a socket's path has at most 107 characters, and not one of pytest's, because those
    are its user's alone.
    """
    initdb, control = _binary("initdb"), _binary("pg_ctl")
    with tempfile.TemporaryDirectory(prefix="surd-postgres-") as folder:
        if os.geteuid() == 0:  # as whom PostgreSQL refuses to run
            shutil.chown(folder, _account().pw_uid, _account().pw_gid)
        data, options = f"{folder}/data", f"-k {folder} -c listen_addresses= -c fsync=off"
        _run([initdb, "--pgdata", data, "--username", USER, "--auth", "trust", "--no-sync"])
        _run([control, "start", "--wait", "--pgdata", data, "--log", f"{folder}/log", "--options", options])
        try:
            yield f"postgresql+asyncpg://{USER}@/postgres?host={folder}"
        finally:
            _run([control, "stop", "--mode", "immediate", "--pgdata", data])


def _binary(name: str) -> str:
    """A program on the path, or beside ``initdb``: distributions put only some of them there."""
    if path := shutil.which(name):
        return path
    initdb = shutil.which("initdb")
    if initdb and (beside := Path(initdb).resolve().with_name(name)).is_file():
        return str(beside)
    raise PostgresMissing(f"PostgreSQL is not installed here: there is no {name} on the path")


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresMissing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _run(command: Sequence[str]) -> None:
    account = {"user": _account().pw_uid, "group": _account().pw_gid} if os.geteuid() == 0 else {}
    # To a file: the server inherits it, and would keep a pipe open for as long as it runs.
    with tempfile.TemporaryFile() as output:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", **account
        )
        output.seek(0)
        if ran.returncode:
            raise PostgresMissing(f"PostgreSQL cannot run here: {output.read().decode(errors='replace').strip()}")
