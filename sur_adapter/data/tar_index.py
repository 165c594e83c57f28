"""Turns a tar into an index of its members, so that any sample is one read at a known offset.

Only the headers are read. Shards are the simplest of tars: regular files called ``{key}.{suffix}``, a sample's files
side by side. Whatever else a tar can hold (links, devices, folders, paths, names in extended headers) is refused,
and nothing is ever extracted.
"""

from __future__ import annotations

import os
import re
import tarfile
from typing import BinaryIO

import numpy as np

from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardInfo

MEND = "surd verify BUILD --repair makes it anew"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}
_NAME = re.compile(rb"([0-9A-Za-z_-]+)\.([0-9a-z]+(?:\.[0-9a-z]+)*)")
_BLOCK = tarfile.BLOCKSIZE
_TIMES = {b"mtime", b"atime", b"ctime"}
_MOST_EXTENDED = 1 << 16

Span = tuple[int, int]


class Tar:
    """An open tar, which this closes: ``keys`` in order and, for each, ``members[i]``: suffix -> (offset, size).

    ``name`` is what messages call the file. Raises SurdError naming file and member when the tar is anything but what
    ``info``, the manifest's entry, and the format say.
    """

    def __init__(self, file: BinaryIO, name: str, info: ShardInfo) -> None:
        self.name, self._file = name, file
        self._descriptor = self._file.fileno()
        try:
            self.keys, self.members = self._scan(os.fstat(self._descriptor).st_size, info)
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise SurdError(f"{self.name}: ends at byte {offset + len(data)}, after it was opened; {MEND}")
        return data

    def close(self) -> None:
        self._file.close()

    def _scan(self, size: int, info: ShardInfo) -> tuple[list[str], list[dict[str, Span]]]:
        samples: dict[str, dict[str, Span]] = {}
        members: dict[str, Span] = {}
        headers: list[bytes] = []
        current, offset = "", 0
        while (header := self._header(offset, current, members)).strip(b"\0"):
            if header[156:157] == tarfile.XHDTYPE:
                offset = self._skip_times(offset, header)
                continue
            key, suffix, length = self._parse(header)
            if key != current:
                if key in samples:
                    raise self._refusal(f"{key}.{suffix}", "comes after other samples, away from its own")
                current, members = key, samples.setdefault(key, {})
            if suffix in members:
                raise self._refusal(f"{key}.{suffix}", "is there twice")
            members[suffix] = (offset + _BLOCK, length)
            headers.append(header)
            offset += _BLOCK + _padded(length)
            if offset > size:
                raise self._refusal(f"{key}.{suffix}", f"claims {length} bytes, {offset - size} more than there are")
        self._check_sums(headers)
        if len(samples) != info.count:
            raise SurdError(f"{self.name}: holds {len(samples)} samples where its manifest says {info.count}; {MEND}")
        if size != info.bytes:
            raise SurdError(f"{self.name}: is {size} bytes where its manifest says {info.bytes}; {MEND}")
        return list(samples), list(samples.values())

    def _header(self, offset: int, key: str, members: dict[str, Span]) -> bytes:
        self._file.seek(offset)
        header = self._file.read(_BLOCK)
        if len(header) < _BLOCK:
            where = f"after member '{key}.{next(reversed(members))}'" if members else "before its first member"
            raise SurdError(f"{self.name}: cut off {where}; {MEND}")
        return header

    def _skip_times(self, offset: int, header: bytes) -> int:
        """Where the next header lies behind an extended one that, like webdataset's own, has but times in it."""
        size = _size(header)
        records = self._file.read(min(size, _MOST_EXTENDED)).splitlines()
        if size > _MOST_EXTENDED or any(one.partition(b" ")[2].partition(b"=")[0] not in _TIMES for one in records):
            raise self._refusal(_text(header[:100]), "is an extended header, not a file")
        return offset + _BLOCK + _padded(size)

    def _parse(self, header: bytes) -> tuple[str, str, int]:
        """Key, suffix and size of a member, or a refusal."""
        field = header[:100].split(b"\0", 1)[0]
        if header[156:157] not in b"0\0":
            kind = _KINDS.get(header[156:157], "an extended header")
            raise self._refusal(_text(field), f"is {kind}, not a file")
        name = _NAME.fullmatch(field)
        if name is None or header[345:346] not in (b"\0", b""):  # a prefix would be a folder
            raise self._refusal(_text(field), "has no name of the form KEY.SUFFIX")
        if (size := _size(header)) < 0:
            raise self._refusal(_text(field), "has a size that cannot be read")
        return name[1].decode(), name[2].decode(), size

    def _check_sums(self, headers: list[bytes]) -> None:
        """Every header's checksum, all at once: one by one they would take longer than the rest of the scan."""
        grid = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, _BLOCK)
        sums = grid.sum(axis=1, dtype=np.int64) - grid[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
        for header, total in zip(headers, sums.tolist(), strict=True):
            if header[148:156].strip(b" \0").lstrip(b"0") != b"%o" % total:
                raise self._refusal(_text(header[:100]), "has a damaged header")

    def _refusal(self, member: str, problem: str) -> SurdError:
        return SurdError(f"{self.name}: member {member[:120]!r} {problem}; {MEND}")


def _size(header: bytes) -> int:
    """The size a header claims, -1 where it is no number."""
    try:
        return int(tarfile.nti(header[124:136]))  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        return -1


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode(errors="replace")
