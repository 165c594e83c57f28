"""Runs the flow ``build-surd`` in this process, without Prefect's log output, and stops its server at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from surd.flows.build_record import build_record, without_secrets
from surd.flows.build_request import BuildRequest
from surd.flows.listener import Listener
from surd.flows.ray_address import check_address
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.pipeline.runner.model_check import check_models
from surd.schemas import SurdError

QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:resource_tracker",  # about locks that a stopped build left behind
}


def run_build(request: BuildRequest, listener: Listener) -> dict[str, Any]:
    """Build what is asked for and return the summary.

    Without a configured Prefect server, Prefect starts one for the duration of this process. User errors raise
    SurdError; whatever else a stage raised is raised again.
    """
    if request.config.runner == "ray":
        check_address()
    build = Build(request.out)
    with exclusive(build):  # only for the checks, before Prefect: that takes seconds to start
        check_models(request.config, build, refresh=request.refresh)  # first: it names every model that is missing
        build_record(request)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from surd.flows.build import make_flow  # after the settings: Prefect reads them when it is imported

    fields = without_secrets(request.config.model_dump(mode="json", exclude={"schema_version"}), [])
    try:
        with _interruptible(listener), _server_of_this_process():
            flow = make_flow(listener, request)
            given = {"profile": request.profile, "out": request.out, "refresh": request.refresh}
            state: Any = flow(**given, **fields, return_state=True)
    except RuntimeError as error:
        if "reach API" not in str(error):
            raise
        url = os.environ.get("PREFECT_API_URL", "set in a Prefect profile")
        raise SurdError(
            f"PREFECT_API_URL is {url}: no Prefect server answers there; start the server, or unset PREFECT_API_URL"
        ) from None
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return dict(result)


@contextmanager
def _server_of_this_process() -> Iterator[None]:
    """Prefect's temporary server, which ends with this process even if that is killed.

    Prefect stops its server on exit, and a kill -9 leaves no exit. So a shell waits for the end of a pipe that only
    this process holds open.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        yield
        return
    server = SubprocessASGIServer()
    server.start()
    assert server.server_process is not None, "start has started it"
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill "$0"', str(server.server_process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not for it
    )
    try:
        yield
    finally:
        guard.kill()  # first: once the server has ended, its number may be another process's
        guard.wait()


@contextmanager
def _interruptible(listener: Listener) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the build at once, as a kill would; the next run continues from the last marker.

    Ctrl-C also reaches Prefect's temporary server, and Prefect would try for a minute to report the end to a server
    that no longer runs.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    def stop(number: int, frame: object) -> None:
        listener.close()
        print("stopped; run the same command again to continue where it stopped", file=sys.stderr, flush=True)
        SubprocessASGIServer().stop()
        os._exit(128 + number)

    if get_current_settings().api.url or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
