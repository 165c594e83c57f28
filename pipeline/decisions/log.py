"""``decisions.jsonl``: a line a decision, appended by any number of writers, also while a run holds the build.

On this machine a line is appended under the system's lock on the file. An object cannot be appended to, so elsewhere
each call writes a small object of its own into ``decisions/``, named by time; ``fold`` joins them into the one file.
A line that a killed writer left half written is left out, and a warning says so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from surd.pipeline.build.atomic import atomic_file
from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.schemas import Decision, SurdError
from surd.schemas.decision import DecisionVerdict

log = logging.getLogger(__name__)
DECISIONS = "decisions.jsonl"
SEGMENTS = "decisions"  # of a build on an object store: what was decided since the file was written


@dataclass(frozen=True)
class DecisionLog:
    """All decisions, the oldest first; ``invalid``: how many lines are none, half-written ones among them."""

    decisions: list[Decision]
    invalid: int = 0


def append(build: Build, *decisions: Decision) -> None:
    """Add decisions; they are on the disk, or in the store, when it returns.

    Raises SurdError where the file cannot be written.
    """
    if not decisions:
        return
    data = b"".join(_line(one) for one in decisions)
    path = build.local_path(DECISIONS)
    if path is None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.jsonl"
        build.put_file(f"{SEGMENTS}/{name}", data)
        return
    try:
        with _locked(path) as file:
            _append(file, data)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SurdError(f"{build.path(DECISIONS)} cannot be written ({why}); nothing was decided") from None


def read(build: Build) -> dict[str, Decision]:
    """Key -> the last decision about it, in the order in which they were made; without those that were withdrawn."""
    last: dict[str, Decision] = {}
    for one in read_log(build).decisions:
        last.pop(one.key, None)
        if one.verdict is not DecisionVerdict.WITHDRAW:
            last[one.key] = one
    return last


def read_log(build: Build) -> DecisionLog:
    """Every decision that was ever made. Lines that are not valid are left out, and a warning counts them."""
    lines, decisions, invalid = _lines(build), [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                decisions.append(Decision.model_validate_json(line))
            except ValidationError:
                invalid.append(number)
    if invalid:
        which = ", ".join(map(str, invalid[:5])) + (" ..." if len(invalid) > 5 else "")
        log.warning(
            "%s: %d line(s) are not valid decisions, as a killed writer leaves them, and are left out (line %s)",
            build.path(DECISIONS), len(invalid), which,
        )  # fmt: skip
    return DecisionLog(decisions, len(invalid))


def fold(build: Build) -> None:
    """Join what was appended on an object store into ``decisions.jsonl``. Only while the build is held."""
    if build.local_path(DECISIONS) is None and (names := build.names_below(SEGMENTS)):
        _rewrite(build, names, lambda line: line)


def remove(build: Build, keys: Set[str]) -> int:
    """Remove all that was decided about records, and mentions of them in the reasons of others; how many lines went.

    Lines that are not valid go too: what they say is not known. Only while the build is held.
    """
    removed = 0

    def without(line: bytes) -> bytes | None:
        nonlocal removed
        try:
            decision: Decision | None = Decision.model_validate_json(line)
        except ValidationError:
            decision = None
        if decision is None or decision.key in keys:
            removed += 1
            return None
        if any(key in text for key in keys for text in (decision.reason, decision.simple) if text):
            return _line(_without_words(decision, keys)).rstrip(b"\n")
        return line

    path = build.local_path(DECISIONS)
    if path is None:
        _rewrite(build, build.names_below(SEGMENTS), without)
    elif path.exists():
        with _locked(path):  # a writer that waits finds the new file
            before = _split(path.read_bytes())
            after = [line for one in before if (line := without(one)) is not None]
            if after != before:
                with atomic_file(path) as file:
                    file.write(_joined(after))
    return removed


def _without_words(decision: Decision, keys: Set[str]) -> Decision:
    def redacted(text: str | None) -> str | None:
        for key in keys:
            text = text.replace(key, "(removed)") if text else text
        return text

    return decision.model_copy(update={"reason": redacted(decision.reason), "simple": redacted(decision.simple)})


def _line(decision: Decision) -> bytes:
    """In ASCII, so that no character of a text ends the line for any reader."""
    return json.dumps(decision.model_dump(mode="json")).encode() + b"\n"


def _lines(build: Build) -> list[bytes]:
    """All lines, the oldest first."""
    if build.local_path(DECISIONS) is not None:
        return _split(_stored(build))
    names = build.names_below(SEGMENTS)  # before the file: what is folded in between is in both
    segments = build.read_many(f"{SEGMENTS}/{name}" for name in names)
    lines = _split(_stored(build))
    folded = set(lines)
    for data in segments:
        if isinstance(data, FileNotFoundError):  # folded since
            continue
        if isinstance(data, OSError):
            raise data
        lines += [line for line in _split(data) if line not in folded]
    return lines


def _stored(build: Build) -> bytes:
    try:
        return build.read_bytes(DECISIONS)
    except FileNotFoundError:
        return b""
    except IsADirectoryError:
        raise DamagedFile(build, DECISIONS, "is a folder") from None


def _split(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line.strip()]


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _rewrite(build: Build, segments: list[str], change: Callable[[bytes], bytes | None]) -> None:
    """Write the file of a build on an object store anew, with its segments joined. A kill before these are removed
    leaves lines that are there twice, which ``_lines`` passes over."""
    before = _lines(build)
    after = [line for one in before if (line := change(one)) is not None]
    if segments or after != before:
        build.send(DECISIONS, _joined(after))
        build.remove_files(f"{SEGMENTS}/{name}" for name in segments)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file's descriptor, at its end for writing; nobody else appends to it or replaces it in the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a filesystem without locks: there an append is one call at least
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return
        finally:
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether a file still has this name: it may have been replaced while the lock was waited for."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _append(file: int, data: bytes) -> None:
    """Write at the end, on a line of its own, and to the disk; nothing is left of what could not be written whole."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data  # the line before is a killed writer's
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
