"""Log messages of libraries without the secrets of the URLs in them."""

from __future__ import annotations

import logging

from surd.pipeline.net.urls import redact_text


def redact_log(name: str) -> None:
    """Redact what the logger of this name logs from now on: httpx logs every request's URL at INFO, fsspec at DEBUG."""
    logging.getLogger(name).addFilter(_redact)  # adding it twice adds it once


def _redact(entry: logging.LogRecord) -> bool:
    entry.msg, entry.args = redact_text(entry.getMessage()), ()
    return True
