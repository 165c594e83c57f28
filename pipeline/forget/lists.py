"""Lists of what is to be removed, as a site or an author sends them: one key, URL or page URL a line."""

from __future__ import annotations

from pathlib import Path

from surd.schemas import SurdError

MOST_BYTES, MOST_LETTERS = 100 << 20, 8192  # of a file, and of a line


def read_list(path: Path) -> list[str]:
    """The lines of a list without empty ones, and those that begin with ``#``, each once.

    Raises SurdError when it cannot be read, is no text, or is larger than any list.
    """
    shown = f"--list is {str(path)!r}"
    try:
        if path.exists() and not path.is_file():
            raise SurdError(f"{shown}: it is not a file; give a text file with one key or URL a line")
        if path.stat().st_size > MOST_BYTES:
            raise SurdError(f"{shown}: it has more than {MOST_BYTES:,} bytes; give it in parts")
        data = path.read_bytes()
    except OSError as error:
        raise SurdError(f"{shown} and cannot be read ({error.strerror}); give a file that you may read") from None
    lines: dict[str, None] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise SurdError(f"{shown}: line {number} is not UTF-8; save it as UTF-8") from None
        if len(text) > MOST_LETTERS or "\0" in text:
            raise SurdError(f"{shown}: line {number} is neither a key nor a URL; remove it")
        if text and not text.startswith("#"):
            lines[text] = None
    if not lines:
        raise SurdError(f"{shown}: it names nothing; give one key, URL or page URL a line")
    return list(lines)
