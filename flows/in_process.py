"""Runs the flow ``build-surd`` in this process: quiet, with a listener, and gone when it ends."""

from __future__ import annotations

import os
from typing import Any

from flows.progress import LISTENER, Listener
from flows.record import check
from schemas import BuildConfig, SurdError

QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "TQDM_DISABLE": "1",
}


def run_build(config: BuildConfig, profile: str, out: str, listener: Listener) -> dict[str, Any]:
    """Build ``config`` in folder or URL ``out`` and return the summary.

    Without a configured Prefect server, Prefect starts one for the duration of this process. Raises SurdError for
    what is the user's to mend, and whatever else a stage raised.
    """
    check(config, out)  # before Prefect, whose start takes seconds
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from flows.build import build_surd  # after the settings: Prefect reads them when it is imported

    fields = config.model_dump(mode="json", exclude={"schema_version"})
    token = LISTENER.set(listener)
    try:
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
