"""Local copies of remote shards: verified by sha256, shared by all processes, kept under a size limit."""

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
from surd.schemas.paths import open_path

ATTEMPTS = 4
READ_AHEAD = 8192  # texts are shorter, so one read mostly covers all tar headers between two images
DEFAULT_LIMIT = 64 << 30


class ShardCache:
    """Copies of remote shards, named by their sha256 and shared by every process of the machine.

    A copy appears whole and verified or not at all. Over ``limit`` bytes, the least recently used are removed; one
    that is being read stays readable.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder or platformdirs.user_cache_path("surd") / "shards"
        self.limit = limit

    def open(self, url: str, info: ShardInfo) -> BinaryIO:
        """The file, or its copy, open for reading. SurdError if it is missing or not what the manifest describes."""
        path = local_path(url)
        try:
            if path is not None:
                return path.open("rb", buffering=READ_AHEAD)
            while True:
                copy = self.fetch(url, info)
                with contextlib.suppress(FileNotFoundError):  # another process may have evicted it just now
                    return copy.open("rb", buffering=READ_AHEAD)
        except FileNotFoundError as error:
            raise SurdError(f"{url}: the file is missing; build it again") from error
        except OSError as error:
            raise SurdError(f"{url}: cannot be read ({error}); make it and the cache folder accessible") from error

    def fetch(self, url: str, info: ShardInfo, stop: threading.Event | None = None) -> Path:
        """The copy of a remote file, fetched now if missing; cancelled with a SurdError once ``stop`` is set."""
        if not re.fullmatch("[0-9a-f]{64}", info.sha256):  # it becomes a file name
            raise SurdError(f"{url}: its manifest's sha256 {info.sha256[:80]!r} is not a sha256; build it again")
        copy = self.folder / f"{info.sha256}.tar"
        if not _touch(copy):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{info.sha256}.lock"):
                if not _touch(copy):  # another process may have fetched it while this one waited
                    self._download(url, info, copy, stop)
                    self._evict(copy)
        return copy

    def _download(self, url: str, info: ShardInfo, copy: Path, stop: threading.Event | None) -> None:
        partial = copy.with_suffix(".part")
        try:
            for attempt in stamina.retry_context(on=_is_transient, attempts=ATTEMPTS):
                with attempt:
                    filesystem, path = open_path(url)
                    filesystem.get_file(path, str(partial), callback=_CopyGuard(info.bytes, stop))
            with partial.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != info.sha256:
                    raise SurdError("is not the file its manifest describes (sha256 differs); publish it again")
            partial.replace(copy)
        except FileNotFoundError as error:
            raise SurdError(f"{url}: the file is missing; build it again") from error
        except SurdError as error:
            raise SurdError(f"{url}: {error}") from None
        except Exception as error:  # every protocol raises its own
            reason = f"{type(error).__name__}: {error}"
            raise SurdError(f"{url}: cannot be copied to {self.folder} ({reason}); try again") from error
        finally:
            partial.unlink(missing_ok=True)

    def _evict(self, newest: Path) -> None:
        copies = []
        for file in self.folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                copies.append((file.stat().st_mtime, file.stat().st_size, file))
        total = sum(size for _, size, _ in copies)
        for _, size, file in sorted(copies):
            if total > self.limit and file != newest:
                file.unlink(missing_ok=True)
                total -= size


class _CopyGuard(fsspec.callbacks.Callback):  # type: ignore[misc]
    """Ends a copy that is no longer needed, or that grows past the size in the manifest: a server may send without
    end."""

    def __init__(self, most: int, stop: threading.Event | None) -> None:
        super().__init__()
        self.most, self.stop = most, stop

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.stop and self.stop.is_set():
            raise SurdError("cancelled: it is no longer needed")
        if self.value > self.most:
            raise SurdError(f"is larger than the {self.most} bytes in its manifest; publish it again")


def _is_transient(error: Exception) -> bool:
    return not isinstance(error, (SurdError, FileNotFoundError, PermissionError))


def local_path(url: str) -> Path | None:
    """The local path of a URL; None if it is remote. SurdError for a protocol with no installed reader."""
    try:
        filesystem, path = open_path(url)
    except (ImportError, ValueError) as error:
        raise SurdError(f"{url}: cannot be read here ({error}); install a reader for it, e.g. s3fs or gcsfs") from error
    protocols = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
    return Path(path) if "file" in protocols else None


def _touch(file: Path) -> bool:
    """Mark the file as used just now; False if it is missing."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True
