"""Files on object stores, by as few requests and bytes as they need; the errors of the stores' clients as sentences."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any

from fsspec.parquet import open_parquet_file
from fsspec.utils import merge_offset_ranges

from surd.schemas import SurdError
from surd.schemas.errors import one_line
from surd.schemas.paths import open_path

#: s3fs asks for the size of a file before it reads it whole, unless it may only do one thing at a time. Listings are
#: not remembered: other processes write too.
_S3 = {"max_concurrency": 1, "use_listings_cache": False}
_SETTINGS: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}
#: Where a file needs no folder. s3fs would make a missing bucket for one.
_WITHOUT_FOLDERS = {"s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}
#: A table up to this size is read whole, by one request; of a larger one the columns that are wanted.
SMALL = 4 << 20
READ_AHEAD = 8 << 20  # of a file that is read from its start
MAX_GAP = 4096  # bytes between two ranges that are read along; a header in a tar is 512 or 1,536
_LARGEST_RANGE = 8 << 20
_IN_MEMORY = 8 << 20  # of a file that is being written
_PART = 16 << 20  # of a large file that is sent; s3fs holds one in memory
_CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests"}
_PASSING = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError", "TransportError"}
_MAGIC = {*"*?["}
_PASSING_NUMBERS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO}


class StoreRefused(SurdError):
    """A store refuses a request, or there are no valid credentials for it: it stays so until somebody changes that."""


class StoreUnreachable(SurdError, ConnectionError):
    """A store does not answer, or fails: it may pass, so a flow tries again after it."""


@contextmanager
def store_errors(root: str, path: str, *, writing: bool = False) -> Iterator[None]:
    """Reads or writes a file of a store in the block. A missing file raises FileNotFoundError with its name."""
    try:
        yield
    except SurdError:
        raise
    except FileNotFoundError as error:
        if writing or _code(error) == "NoSuchBucket":  # what is written needs nothing but its bucket
            raise _refused(root, error) from error
        raise FileNotFoundError(errno.ENOENT, "it is not there", path) from error
    except (PermissionError, FileExistsError) as error:
        raise _refused(root, error) from error
    except OSError as error:
        passing = error.errno in _PASSING_NUMBERS or isinstance(error, (TimeoutError, ConnectionError))
        if not passing and error.errno != errno.EINVAL:  # EINVAL: S3's 400, also for a HEAD with an expired token
            raise
        raise (_unreachable if passing else _refused)(root, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        passing = not _PASSING.isdisjoint(base.__name__ for base in type(error).__mro__)
        raise (_unreachable if passing else _refused)(root, error) from error


def _code(error: Exception) -> str:
    """The code in S3's answer; empty if the error comes from elsewhere."""
    response: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _clock_off(error: Exception) -> float:
    """Minutes between this machine's clock and that of the store's answer; 0 up to the 15 that S3 lets pass.

    By the date of the answer, since the answer to a HEAD, which is what comes first, has no code.
    """
    headers = (getattr(error.__cause__, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        minutes = abs(datetime.now(UTC) - parsedate_to_datetime(headers.get("date", ""))).total_seconds() / 60
    except (ValueError, TypeError):
        return 0.0
    return minutes if minutes > 14 else 0.0


def _refused(root: str, error: Exception) -> StoreRefused:
    if off := _clock_off(error):
        return StoreRefused(
            f"out is {root!r} and the store refuses it: by its clock that of this machine is {off:.0f} minutes off; set"
            " the clock, then run the same command again: what was built stays"
        )
    return StoreRefused(
        f"out is {root!r} and the store refuses it ({_why(error)}); check the bucket, the credentials (for S3"
        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and what they allow, then run the same command"
        " again: what was built stays"
    )


def _unreachable(root: str, error: Exception) -> StoreUnreachable:
    return StoreUnreachable(
        f"out is {root!r} and the store does not answer ({_why(error)}); check the network and the address (for S3"
        " AWS_ENDPOINT_URL), then run the same command again: what was built stays"
    )


def _why(error: Exception) -> str:
    return one_line(error).rstrip(".")


def open_store(root: str) -> tuple[Any, str, bool]:
    """The filesystem of a path or URL, the path there, and whether that is on this machine.

    Raises SurdError where nothing installed speaks the protocol.
    """
    protocol = root.partition("://")[0]
    try:
        filesystem, path = open_path(root, **_SETTINGS.get(protocol, {}))
    except (ImportError, ValueError) as error:
        raise SurdError(
            f"out is {root!r}: nothing that is installed reads {protocol}:// ({one_line(error)}); install it, for"
            " example with pip install 'surd[s3]' or 'surd[gs]', or give a folder"
        ) from None
    return filesystem, path, "file" in _protocols(filesystem)


def needs_folders(filesystem: Any) -> bool:
    """Whether a file can only be written into a folder that is there."""
    return _WITHOUT_FOLDERS.isdisjoint(_protocols(filesystem))


def _protocols(filesystem: Any) -> tuple[str, ...]:
    return filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)


@contextmanager
def uploading(filesystem: Any, root: str, path: str) -> Iterator[IO[bytes]]:
    """A binary file that is sent when the block ends well; a store shows it only when all of it has arrived.

    Until then it lies here, in memory or the folder for temporary files: an upload that is broken off by an error, and
    closed like any file, would appear under its name cut off.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
        yield spool
        with store_errors(root, path, writing=True):
            _send(filesystem, spool, path)


def _send(filesystem: Any, spool: Any, path: str) -> None:
    if needs_folders(filesystem):
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    size = spool.tell()
    spool.seek(0)
    if size <= _IN_MEMORY:
        filesystem.pipe_file(path, spool.read())
    else:
        # A path to the file, which has no name: so it is gone with this process, however that ends.
        parts = {"chunksize": _PART} if "s3" in _protocols(filesystem) else {}
        filesystem.put_file(f"/dev/fd/{spool.fileno()}", path, **parts)


def names_below(filesystem: Any, folder: str) -> list[str]:
    """Names of the files in a folder, sorted; empty where there is none. Other than by ``ls`` or ``exists`` that is one
    request, however many files lie beside the folder."""
    above, _, name = folder.rpartition("/")
    found = filesystem.find(above, prefix=f"{name}/")  # which filesystems without prefixes take for nothing
    return sorted(path.rpartition("/")[2] for path in found if path.startswith(f"{folder}/"))


def remove_objects(filesystem: Any, path: str) -> None:
    """Remove a file, or all files below a folder; nothing happens where there is none."""
    _remove(filesystem, filesystem.find(path))


def replace_objects(filesystem: Any, fresh: str, folder: str, staying: Collection[str] = ()) -> None:
    """Copy the files below ``fresh`` to ``folder``, ``manifest.json`` last, and remove others that are there but those
    whose names are ``staying``."""
    names = [path.removeprefix(f"{fresh}/") for path in filesystem.find(fresh)]
    there = {path for path in filesystem.find(folder) if path.startswith(f"{folder}/")}
    stale = there - {f"{folder}/{name}" for name in staying}
    if staying:  # the manifest must not vouch for files that a kill leaves half exchanged
        _remove(filesystem, sorted(there & {f"{folder}/manifest.json"}))
        stale.discard(f"{folder}/manifest.json")
    for name in sorted(names, key=lambda name: name == "manifest.json"):
        filesystem.cp_file(f"{fresh}/{name}", f"{folder}/{name}")
    _remove(filesystem, sorted(stale - {f"{folder}/{name}" for name in names}))


def _remove(filesystem: Any, paths: list[str]) -> None:
    if any(_MAGIC & {*path} for path in paths):  # fsspec's rm would take such a name for a pattern
        for path in paths:
            filesystem.rm_file(path)
    elif paths:
        filesystem.rm(paths)


def read_ranges(filesystem: Any, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """The bytes of (path, start, end), several at once and neighbours together; shorter where a file ends before."""
    paths, starts, ends = (list(column) for column in zip(*ranges, strict=True))
    merged = merge_offset_ranges(paths, starts, ends, max_gap=MAX_GAP, max_block=_LARGEST_RANGE, sort=True)
    blocks: dict[str, list[tuple[int, int, bytes]]] = {}
    for path, start, end, data in zip(*merged, filesystem.cat_ranges(*merged, on_error="return"), strict=True):
        blocks.setdefault(path, []).append((start, end, _or_beyond_the_end(data)))
    return [_cut(blocks[path], start, end) for path, start, end in ranges]


def _or_beyond_the_end(data: Any) -> bytes:
    if isinstance(data, OSError) and data.errno == errno.EINVAL:  # S3's 416
        return b""
    if isinstance(data, BaseException):
        raise data
    return bytes(data)


def _cut(blocks: list[tuple[int, int, bytes]], start: int, end: int) -> bytes:
    for first, last, data in blocks:
        if first <= start and end <= last:
            return data[start - first : end - first]
    raise AssertionError("a range lies in one of the merged ones")


class RangeFile(io.RawIOBase):
    """A file of a store that requests exactly the bytes that are read, and its size only where that is asked for."""

    def __init__(self, filesystem: Any, root: str, path: str) -> None:
        super().__init__()
        self._fs, self._root, self._path = filesystem, root, path
        self._position = 0
        self._size: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = (self._end() if base is None else base) + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = len(memoryview(buffer).cast("B"))
        if not wanted or (self._size is not None and self._position >= self._size):
            return 0
        with store_errors(self._root, self._path):
            (data,) = read_ranges(self._fs, [(self._path, self._position, self._position + wanted)])
        buffer[: len(data)] = data
        self._position += len(data)
        if len(data) < wanted:
            self._size = self._position
        return len(data)

    def _end(self) -> int:
        if self._size is None:
            with store_errors(self._root, self._path):
                self._size = int(self._fs.size(self._path))
        return self._size


def open_ahead(filesystem: Any, root: str, path: str) -> IO[bytes]:
    """A file that is read from its start."""
    return io.BufferedReader(RangeFile(filesystem, root, path), READ_AHEAD)


def open_table(filesystem: Any, root: str, path: str, columns: list[str] | None = None) -> IO[bytes]:
    """A Parquet file of which ``columns`` are read, or parts that are not known yet."""
    with store_errors(root, path):
        (head,) = read_ranges(filesystem, [(path, 0, SMALL)])
        if len(head) < SMALL:
            return io.BytesIO(head)
        if columns:
            return open_parquet_file(path, fs=filesystem, columns=columns, engine="pyarrow")
    return io.BufferedReader(RangeFile(filesystem, root, path), 1 << 20)
