"""Turns a path that the user named into files that may be read; whatever may not be is said, never passed over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from surd.pipeline.sources import new_record
from surd.pipeline.untrusted_json import to_text
from surd.schemas import Reason, SourceRecord, SurdError


@dataclass(frozen=True)
class Found:
    """Relative POSIX paths below a folder, sorted; of a folder that cannot be entered, why: ``closed``."""

    files: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)

    def note(self, error: OSError, root: Path) -> None:
        """A folder below ``root`` that could not be entered."""
        self.closed[Path(error.filename).relative_to(root).as_posix()] = why(error)


def named_folder(kind: str, path: str) -> Path:
    """The folder of the source ``kind:path``. Raises SurdError where none is there or this user may not read it."""
    shown = f"config field 'source' is {f'{kind}:{path}'!r}"
    try:
        root = resolved(path)
        if not root.is_dir():
            raise SurdError(f"{shown} and no folder is there; give one that is")
        os.stat(f"{root}/.")  # noqa: PTH116 - pathlib drops the dot, which asks whether it may be entered
        next(root.iterdir(), None)
    except (OSError, ValueError) as error:
        raise SurdError(f"{shown} and cannot be read ({why(error)}); give a folder that you may read") from None
    return root


def resolved(path: str) -> Path:
    """The absolute path that a person wrote. Raises OSError or ValueError on what can be none."""
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:  # pathlib's word for a user without a home, and for links that go in a circle
        raise ValueError(str(error)) from None


def files_below(root: Path) -> Found:
    """All files that are not hidden, in folders that are not; links to folders are not entered."""
    found = Found()
    for folder, folders, files in os.walk(root, onerror=lambda error: found.note(error, root)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(root)
        found.files.extend((below / name).as_posix() for name in files if not name.startswith("."))
    found.files.sort()
    return found


def stamps(root: Path, names: Iterable[str], settings: str = "") -> str:
    """A hash of the names, sizes and times of files below a folder; of one that cannot be looked at, of its name."""
    digest = hashlib.sha256(settings.encode())
    for name in names:
        try:
            stat = (root / name).stat()
            line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        except OSError as error:
            line = f"{name}\0{why(error)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def closed_folders(source: str, found: Found) -> list[SourceRecord]:
    """One record a folder that could not be entered: nobody knows what it holds."""
    return [
        new_record(source, f"{to_text(name)}/").reject(
            "collect", Reason.UNREADABLE_FILE, f"the folder {to_text(name)} cannot be read: {reason}"
        )
        for name, reason in sorted(found.closed.items())
    ]


def why(error: Exception) -> str:
    """What the system says, in its own words and without the path, which stands beside."""
    return to_text(getattr(error, "strerror", None) or str(error)) or type(error).__name__
