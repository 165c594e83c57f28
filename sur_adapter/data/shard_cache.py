"""Turns the URL of a shard into a local file: itself where it is local, else a verified copy in a cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from pathlib import Path
from typing import BinaryIO

import fsspec
import platformdirs
import stamina
from filelock import FileLock

from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardInfo

ATTEMPTS = 4
READ_AHEAD = 8192  # texts are shorter, so that one read mostly finds all tar headers between two images
DEFAULT_LIMIT = 64 << 30


class ShardCache:
    """Copies of remote shards, named by their sha256 and shared by every process of the machine.

    A copy appears whole and verified or not at all. Over ``limit`` bytes, those unused for longest are removed; one
    that is being read stays readable.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder or platformdirs.user_cache_path("surd") / "shards"
        self.limit = limit

    def open(self, url: str, info: ShardInfo) -> BinaryIO:
        """The file, or its copy, to read. SurdError when it cannot be had or is not what the manifest describes."""
        path = local_path(url)
        try:
            if path is not None:
                return path.open("rb", buffering=READ_AHEAD)
            while True:
                copy = self.fetch(url, info)
                with contextlib.suppress(FileNotFoundError):  # another process may have made room just now
                    return copy.open("rb", buffering=READ_AHEAD)
        except FileNotFoundError as error:
            raise SurdError(f"{url}: there is no such file; build it again") from error
        except OSError as error:
            raise SurdError(f"{url}: cannot be read ({error}); make it, or the cache folder, accessible") from error

    def fetch(self, url: str, info: ShardInfo, stop: threading.Event | None = None) -> Path:
        """The copy of a remote file, made now where there is none; given up with a SurdError once ``stop`` is set."""
        if not re.fullmatch("[0-9a-f]{64}", info.sha256):  # it becomes a file name
            raise SurdError(f"{url}: its manifest's sha256 {info.sha256[:80]!r} is none; build it again")
        copy = self.folder / f"{info.sha256}.tar"
        if not _touch(copy):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{info.sha256}.lock"):
                if not _touch(copy):  # another process may have fetched it while this one waited
                    self._download(url, info, copy, stop)
                    self._make_room(copy)
        return copy

    def _download(self, url: str, info: ShardInfo, copy: Path, stop: threading.Event | None) -> None:
        partial = copy.with_suffix(".part")
        try:
            for attempt in stamina.retry_context(on=_may_pass, attempts=ATTEMPTS):
                with attempt:
                    filesystem, path = fsspec.core.url_to_fs(url)
                    filesystem.get_file(path, str(partial), callback=_Watch(info.bytes, stop))
            with partial.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != info.sha256:
                    raise SurdError("is not the file its manifest describes (sha256 differs); publish it again")
            partial.replace(copy)
        except FileNotFoundError as error:
            raise SurdError(f"{url}: there is no such file; build it again") from error
        except SurdError as error:
            raise SurdError(f"{url}: {error}") from None
        except Exception as error:  # every protocol raises its own
            said = f"{type(error).__name__}: {error}"
            raise SurdError(f"{url}: cannot be copied to {self.folder} ({said}); try again") from error
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        copies = []
        for file in self.folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                copies.append((file.stat().st_mtime, file.stat().st_size, file))
        held = sum(size for _, size, _ in copies)
        for _, size, file in sorted(copies):
            if held > self.limit and file != newest:
                file.unlink(missing_ok=True)
                held -= size


class _Watch(fsspec.callbacks.Callback):  # type: ignore[misc]
    """Ends a copy that nobody waits for any more, or that grows past what the manifest promised: a server may send
    without end."""

    def __init__(self, most: int, stop: threading.Event | None) -> None:
        super().__init__()
        self.most, self.stop = most, stop

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.stop and self.stop.is_set():
            raise SurdError("nobody waits for it any more")
        if self.value > self.most:
            raise SurdError(f"is more than the {self.most} bytes its manifest says; publish it again")


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, (SurdError, FileNotFoundError, PermissionError))


def local_path(url: str) -> Path | None:
    """Where a file lies on this machine; None when it lies elsewhere. SurdError for a protocol nothing here speaks."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SurdError(f"{url}: cannot be read here ({error}); install what reads it, e.g. s3fs or gcsfs") from error
    protocols = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
    return Path(path) if "file" in protocols else None


def _touch(file: Path) -> bool:
    """Whether the file is there; if so, it was used just now."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True
