"""Runs the flow ``build-surd`` in this process, without Prefect's log output, and stops its server at the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from surd.flows.build_record import build_record
from surd.flows.listener import Listener
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.model_check import check_models
from surd.schemas import BuildConfig, SurdError

QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:resource_tracker",  # about locks that a stopped build left behind
}


def run_build(config: BuildConfig, profile: str, out: str, listener: Listener) -> dict[str, Any]:
    """Build ``config`` in folder or URL ``out`` and return the summary.

    Without a configured Prefect server, Prefect starts one for the duration of this process. User errors raise
    SurdError; whatever else a stage raised is raised again.
    """
    build_record(config, out)  # only for its checks, before Prefect: that takes seconds to start
    check_models(config, Build(out))
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from surd.flows.build import make_flow  # after the settings: Prefect reads them when it is imported

    fields = config.model_dump(mode="json", exclude={"schema_version"})
    try:
        with _interruptible(listener):
            state: Any = make_flow(listener)(profile=profile, out=out, **fields, return_state=True)
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
