"""Captions in a text file beside a picture, as trainers keep them: ``0.txt``, ``0.caption`` or ``0.png.txt``."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from surd.pipeline import untrusted_json
from surd.pipeline.metadata.a1111 import parse_a1111
from surd.pipeline.sources.local_files import FolderListing, os_message
from surd.pipeline.untrusted_json import without_controls

CAPTION_FILES = (".txt", ".caption")
MAX_BYTES = 1 << 20  # a prompt's first 50,000 letters are read anyway


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What the file says: a prompt, and of A1111's infotext the rest. ``detail``: what of it was not used, and why."""

    prompt: str | None = None
    negative_prompt: str | None = None
    params: str | None = None
    detail: str | None = None


def caption_file(listing: FolderListing, name: str) -> str | None:
    """The caption file of a picture; None if it has none."""
    bases = (name.rpartition(".")[0], name)
    beside = (f"{base}{suffix}" for base in bases for suffix in CAPTION_FILES)
    return next((one for one in beside if one in listing.names), None)


def read_sidecar(root: Path, file: str) -> Sidecar:
    """The prompt of a caption file below ``root``: infotext of A1111, else its first line.

    Trainers take further lines for other captions of the picture, of which they draw one. Never raises: what cannot be
    read is said in ``detail``.
    """
    shown = f"a sidecar {file.rpartition('/')[2]} lies beside it and"
    try:
        text = _text(root, file)
    except (OSError, ValueError) as error:
        return Sidecar(detail=f"{shown} is not read ({os_message(error)})")
    if infotext := parse_a1111(text, expected=False):
        params = untrusted_json.dump(infotext.params) if infotext.params else None
        return Sidecar(
            prompt=infotext.prompt,
            negative_prompt=infotext.negative_prompt,
            params=params,
            detail=None if infotext.prompt else f"{shown} has parameters and no prompt",
        )
    lines = [plain for line in text.splitlines() if (plain := line.strip())]
    if not lines:
        return Sidecar(detail=f"{shown} is empty")
    more = f"of the {len(lines)} lines of {file.rpartition('/')[2]} the first is the prompt" if len(lines) > 1 else None
    return Sidecar(prompt=lines[0], detail=more)


def _text(root: Path, file: str) -> str:
    path = (root / file).resolve()
    if not path.is_relative_to(root):
        raise ValueError("the path leaves the folder")
    if not path.is_file():  # a pipe would never end
        raise ValueError("it is not a plain file")
    with path.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    return without_controls(text)
