"""Runs the flow ``build-surd`` in this process: quiet, with a listener, and gone when it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from surd.flows.build_record import check
from surd.flows.listener import LISTENER, Listener
from surd.schemas import BuildConfig, SurdError

QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:resource_tracker",  # of locks that a build left behind when it was stopped
}


def run_build(config: BuildConfig, profile: str, out: str, listener: Listener) -> dict[str, Any]:
    """Build ``config`` in folder or URL ``out`` and return the summary.

    Without a configured Prefect server, Prefect starts one for the duration of this process. Raises SurdError for
    what is the user's to mend, and whatever else a stage raised.
    """
    check(config, out)  # before Prefect, whose start takes seconds
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from surd.flows.build import build_surd  # after the settings: Prefect reads them when it is imported

    fields = config.model_dump(mode="json", exclude={"schema_version"})
    token = LISTENER.set(listener)
    try:
        with _interruptible(listener):
            state: Any = build_surd(profile=profile, out=out, **fields, return_state=True)
    except RuntimeError as error:
        if "reach API" not in str(error):
            raise
        url = os.environ.get("PREFECT_API_URL", "the configured one")
        raise SurdError(
            f"PREFECT_API_URL is {url!r} and no Prefect server answers there; start it, or unset it"
        ) from None
    finally:
        LISTENER.reset(token)
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return dict(result)


@contextmanager
def _interruptible(listener: Listener) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the build at once, as a kill would, and nothing is lost by that.

    Ctrl-C reaches Prefect's temporary server, too; to tell a server that is gone of the end Prefect would try for a
    minute.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    def stop(number: int, frame: object) -> None:
        listener.close()
        print("stopped; run again and it continues where it stopped", file=sys.stderr, flush=True)
        SubprocessASGIServer().stop()
        os._exit(128 + number)

    if get_current_settings().api.url or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
