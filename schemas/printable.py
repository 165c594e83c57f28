"""Text from files and from the web as a terminal may show it: a terminal obeys the control characters in it."""

from __future__ import annotations

import json
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


def write_what_can_be_encoded() -> None:
    """Let stdout and stderr write escapes for characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _escape(char: str) -> str:
    code = ord(char)
    return _NAMES.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
