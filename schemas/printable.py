"""Text from files and from the web as a terminal may show it: a terminal obeys the control characters in it."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

# C0 and C1 controls (ESC, and 0x9b, which is ESC [ in one), line ends, overrides of the reading direction, marks that
# show nothing, and half characters, which no encoding can write.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every unsafe character as its escape, such as ``\\x1b``; with ``lines`` line ends and tabs stay."""
    return _UNSAFE.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escape(match[0]), text)


def json_line(document: Any) -> str:
    """A document as one line of JSON that a terminal may show too: JSON's own escapes stand for unsafe characters."""
    text = json.dumps(document, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def set_up_terminal() -> None:
    """Call once where a command begins: what stdout and stderr cannot encode is written as an escape instead of
    failing, and so is what a terminal would obey in a warning of the log."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort:  # what prints warnings where nobody has set up a log
        logging.lastResort.setFormatter(_PrintableFormatter())


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


def _escape(char: str) -> str:
    code = ord(char)
    return _NAMES.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
