"""Damaged files of a build: one sentence that names the file and the command that repairs it."""

from __future__ import annotations

import errno
import hashlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import ValidationError

from surd.schemas import SurdError
from surd.schemas.errors import FULL, one_line

if TYPE_CHECKING:
    from surd.pipeline.build.folder import Build

#: errno of what stays as it is until somebody changes the folder. Other faults of disk and network may pass: a flow
#: tries again after them.
LASTING = (
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENAMETOOLONG,
)  # fmt: skip
#: Those of them that say that something else lies where a file or a folder is to be written.
_BLOCKED = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
_LARGE = 64 << 20  # bytes; files above it are hashed last when the damaged file is looked for


class DamagedFile(SurdError):
    """A file of a build is missing, unreadable or not what was written; the message says what repairs it."""

    def __init__(self, build: Build, file: str, why: str) -> None:
        super().__init__(f"{build.path(file)} {why}; {remedy(build, file)}")
        self.file, self.why = file, why


class BlockedFile(SurdError):
    """A file of a build cannot be written, because a folder lies there or a file where its folder belongs."""

    def __init__(self, build: Build, file: str, why: str) -> None:
        super().__init__(
            f"{build.path(file)} cannot be written ({why}); move away what lies there, then run the same surd build"
            " (or surd import) again"
        )
        self.why = why


@contextmanager
def placing(build: Build, file: str) -> Iterator[None]:
    """Writes a file of a build in the block: what lies in its way becomes a BlockedFile."""
    try:
        yield
    except OSError as error:
        if error.errno not in _BLOCKED:
            raise
        raise BlockedFile(build, file, error.strerror or type(error).__name__) from None


def remedy(build: Build, file: str) -> str:
    """What a person does about a damaged file of a build."""
    if build.exists(file) and not build.is_file(file):
        return "move the folder away, then run the same surd build (or surd import) again"
    if file == "build.json":
        return (
            "run the same surd build (or surd import) again, with its --source, --profile and parameters, and with"
            " --overwrite: it writes the file anew and keeps finished stages"
        )
    if file.endswith("/ledger.parquet"):
        stage = file.split("/")[0]
        return (
            "put it back from a copy of the build, or remove it and run the same surd build (or surd import) again,"
            f" which does all of stage {stage} anew"
        )
    if file.startswith(("shards/", "columns/")):
        return f"repair it: surd verify {shlex.quote(build.root)} --repair"
    there = "remove it and run" if build.exists(file) else "run"
    return f"{there} the same surd build (or surd import) again, which makes it anew"


def unfinished(build: Build, stage: str, part: int) -> SurdError:
    """Why a unit of a stage does not count as done: it has no marker, or a file of it is gone or of another size."""
    marker = build.ledger(stage).recorded(part)
    if marker is None:
        return SurdError(
            f"build is {build.root!r}: its stage {stage} is not finished (part {part}); run the same surd build (or"
            " surd import) again, which continues where it stopped"
        )
    file = next((file for file in marker.outputs if not build.is_file(file)), None)
    if file is not None:
        return DamagedFile(build, file, "is missing")
    file = next((file for file, size in marker.sizes.items() if build.size(file) != size), next(iter(marker.outputs)))
    return DamagedFile(build, file, "has changed since its stage wrote it (it has another length)")


@contextmanager
def reading(build: Build, file: str) -> Iterator[None]:
    """Reads a file of a build in the block: whatever damage makes of that becomes a DamagedFile."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedFile(build, file, "is missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        why = one_line(ValueError(f"{field}: {first['msg']}" if field else first["msg"]))
        raise DamagedFile(build, file, f"is not valid ({why})") from None
    except OSError as error:
        if isinstance(error, (TimeoutError, ConnectionError)) or error.errno not in (None, *LASTING):
            raise
        raise DamagedFile(build, file, f"cannot be read ({error.strerror or one_line(error)})") from None
    except (pa.ArrowException, ValueError, LookupError) as error:
        raise DamagedFile(build, file, f"cannot be read ({one_line(error)})") from None


@contextmanager
def blaming_damage(build: Build) -> Iterator[None]:
    """Where the block fails over rows that do not fit together, the damaged file behind it, if there is one.

    Looked for only then, since it means reading the whole build: every file must have the sha256 in its marker.
    """
    try:
        yield
    except (SurdError, OSError):
        raise
    except Exception:
        damage = find_damage(build)
        if damage is None:
            raise
        raise damage from None


@contextmanager
def explaining_faults(build: Build) -> Iterator[None]:
    """Where the block fails over a damaged file, an unreadable or unwritable one, or a full disk: one sentence."""
    try:
        with blaming_damage(build):
            yield
    except OSError as error:
        if error.errno in LASTING and error.filename:
            raise SurdError(
                f"{error.filename} cannot be read or written ({error.strerror}); make it what a build needs there,"
                " or move it away, then run the same surd build again"
            ) from error
        if error.errno not in FULL:
            raise
        why = (error.strerror or "full").lower()
        raise SurdError(
            f"out is {build.root!r} and cannot be written ({why}); free some space and run again to continue"
        ) from error


def find_damage(build: Build) -> DamagedFile | None:
    """The first file that is not as the marker of its stage says, small files first; None if all are."""
    outputs: dict[str, str] = {}
    for stage in build.listdir(""):
        try:
            ledger = build.ledger(stage)
        except DamagedFile as damage:
            return damage
        for unit in ledger.units():
            marker = ledger.recorded(unit)
            outputs |= marker.outputs if marker else {}
    try:
        sizes = {file: build.size(file) if build.exists(file) else 0 for file in outputs}
    except (ValueError, OSError):  # a name that leads elsewhere, or a circular link
        return None
    for file in sorted(outputs, key=lambda file: (sizes[file] > _LARGE, file)):
        try:
            with reading(build, file), build.open(file) as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
        except DamagedFile as damage:
            return damage
        if digest != outputs[file]:
            return DamagedFile(build, file, "has changed since its stage wrote it (its sha256 is another)")
    return None
