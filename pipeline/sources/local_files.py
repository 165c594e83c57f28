"""Files below a folder that the user gave; folders that cannot be read are reported, never skipped."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from surd.pipeline.sources import new_record
from surd.pipeline.untrusted_json import to_text
from surd.schemas import Reason, SourceRecord, SurdError

SIDECARS = (".txt", ".caption", ".json", ".yaml", ".yml", ".xml")  # of texts that programs put beside a picture


@dataclass(frozen=True)
class FolderListing:
    """Relative POSIX paths below a folder, sorted. ``closed``: folders that cannot be entered, and why."""

    files: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    _forms: dict[Callable[[str], str], dict[str, list[str]]] = field(default_factory=dict, repr=False)

    def find(self, stated: str) -> str:
        """The listed file that a path of a table means; the path itself, without ``./``, if there is none.

        Also one with backslashes, in another Unicode form (macOS decomposes names), or, if only one file comes into
        question, in another case.
        """
        name = _plain_path(stated)
        if name in self.names:
            return name
        for form in (_composed, _folded):
            among = self._by_form(form).get(form(name), ())
            if len(among) == 1:
                return among[0]
        return name if "\\" not in stated else _plain_path(stated, backslashes=False)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.files)

    def _by_form(self, form: Callable[[str], str]) -> dict[str, list[str]]:
        if form not in self._forms:
            names = self._forms.setdefault(form, {})
            for name in self.files:
                names.setdefault(form(name), []).append(name)
        return self._forms[form]

    def unread_beside(self, name: str) -> str | None:
        """What to say of a picture without a prompt that has a text of its name beside it; None if it has not."""
        stem = name.rpartition(".")[0]
        beside = [
            one for one in (f"{base}{suffix}" for base in (stem, name) for suffix in SIDECARS) if one in self.names
        ]
        return f"a sidecar {beside[0].rpartition('/')[2]} lies beside it and is not read" if beside else None

    def add_closed(self, error: OSError, root: Path) -> None:
        """A folder below ``root`` that could not be entered."""
        self.closed[Path(error.filename).relative_to(root).as_posix()] = os_message(error)


def _plain_path(stated: str, *, backslashes: bool = True) -> str:
    """A relative path without ``./`` and doubled slashes. One that leads up or is absolute stays as it is."""
    path = stated.strip().replace("\\", "/") if backslashes else stated
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return path
    return "/".join(part for part in parts if part not in ("", "."))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def named_folder(kind: str, path: str) -> Path:
    """The folder of the source ``kind:path``. Raises SurdError if it is missing or this user may not read it."""
    shown = f"config field 'source' is {f'{kind}:{path}'!r}"
    try:
        root = resolved(path)
        if not root.is_dir():
            raise SurdError(f"{shown} and no folder is there; give an existing one")
        os.stat(f"{root}/.")  # noqa: PTH116 - pathlib drops the dot, which tests whether the folder may be entered
        next(root.iterdir(), None)
    except (OSError, ValueError) as error:
        raise SurdError(f"{shown} and cannot be read ({os_message(error)}); give a folder that you may read") from None
    return root


def resolved(path: str) -> Path:
    """The absolute path of what a person wrote. Raises OSError or ValueError if it cannot be a path."""
    try:
        return Path(os.path.expanduser(path)).resolve()  # noqa: PTH111 - pathlib's refuses the name ~nobody
    except RuntimeError as error:  # pathlib's error for a user without a home, and for links that go in a circle
        raise ValueError(str(error)) from None


def files_below(root: Path) -> FolderListing:
    """All files that are not hidden, in folders that are not; links to folders are not followed."""
    listing = FolderListing()
    for folder, folders, files in os.walk(root, onerror=lambda error: listing.add_closed(error, root)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(root)
        listing.files.extend((below / name).as_posix() for name in files if not name.startswith("."))
    listing.files.sort()
    return listing


def stamps(root: Path, names: Iterable[str], settings: str = "") -> str:
    """A hash of the names, sizes and times of files below a folder; of an unreadable one, of its name and error."""
    digest = hashlib.sha256(settings.encode())
    for name in names:
        try:
            stat = (root / name).stat()
            line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        except OSError as error:
            line = f"{name}\0{os_message(error)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def closed_folders(source: str, listing: FolderListing) -> list[SourceRecord]:
    """One rejected record per folder that could not be entered: its content is unknown."""
    return [
        new_record(source, f"{to_text(name)}/").reject(
            "collect", Reason.UNREADABLE_FILE, f"the folder {to_text(name)} cannot be read: {reason}"
        )
        for name, reason in sorted(listing.closed.items())
    ]


def os_message(error: Exception) -> str:
    """The system's message without the path, which the caller states."""
    return to_text(getattr(error, "strerror", None) or str(error)) or type(error).__name__
