"""Turns a tar that anybody may have made into its members, or into the sentence that says what is wrong with it.

A surd tar holds plain files, each name once, and nothing behind its end. Whatever else a tar can say (links, devices,
folders, sparse files, names in extended headers) is refused. Nothing is ever written to disk, and no size that a header
claims is believed before the bytes are there.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MAX_MEMBER = 1 << 30  # bytes; members are read into memory, and no image or array of a dataset is larger
_MAX_EXTENDED = 1 << 16
_TIMES = {"mtime", "atime", "ctime"}  # what webdataset's own writer puts into extended headers
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class InvalidTar(Exception):
    """The tar breaks a promise; ``member`` is where, None for the tar as a whole."""

    def __init__(self, member: str | None, problem: str) -> None:
        super().__init__(problem if member is None else f"{printable(member)}: {problem}")
        self.member, self.problem = member, problem


def printable(name: str) -> str:
    """A stranger's name as a terminal may show it: no control characters, so that none of them is obeyed."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


@dataclass(frozen=True)
class TarMember:
    """One file of a tar; ``offset`` is where its bytes begin in the tar."""

    name: str
    offset: int
    data: bytes


class TarReader:
    """Reads a tar of ``total`` bytes once, front to back; after the last member ``sha256`` is that of the whole."""

    def __init__(self, file: IO[bytes], total: int) -> None:
        self._file, self._total = file, total
        self._hash = hashlib.sha256()
        self._position = 0

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[TarMember]:
        """The members. Raises InvalidTar at the first that is not as it must be, and when the tar is cut or goes on."""
        seen: set[str] = set()
        while (header := self._header()) is not None:
            name = header.name
            if header.type == tarfile.XHDTYPE:
                self._check_extended(name, self._body(header))
                continue
            if not header.isreg() or header.issparse():
                raise InvalidTar(name, f"it is {_KINDS.get(header.type, 'of an unknown kind')}, not a plain file")
            if name.startswith(("/", "\\")):
                raise InvalidTar(name, "its path is absolute")
            if ".." in name.replace("\\", "/").split("/"):
                raise InvalidTar(name, "its path leads out of the folder")
            if name in seen:
                raise InvalidTar(name, "it is there twice")
            seen.add(name)
            offset = self._position
            yield TarMember(name, offset, self._body(header))

    def _header(self) -> tarfile.TarInfo | None:
        block = self._read(tarfile.BLOCKSIZE)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            self._read_end()
            return None
        except tarfile.HeaderError as error:
            if not block:
                raise InvalidTar(None, f"it is cut off: its end is missing after {self._position:,} bytes") from None
            where = self._position - len(block)
            raise InvalidTar(None, f"it is damaged at byte {where:,}: {error}") from None

    def _body(self, header: tarfile.TarInfo) -> bytes:
        left = self._total - self._position
        if header.size < 0 or header.size > left:
            raise InvalidTar(header.name, f"it claims {header.size:,} bytes and {left:,} are left: the tar is cut off")
        if header.size > MAX_MEMBER:
            raise InvalidTar(header.name, f"it has {header.size:,} bytes; no member may have more than {MAX_MEMBER:,}")
        data = self._read(header.size)
        padding = self._read(-header.size % tarfile.BLOCKSIZE)
        if len(data) + len(padding) != -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE:
            raise InvalidTar(header.name, "the tar is cut off inside it")
        return data

    def _check_extended(self, name: str, body: bytes) -> None:
        """Times may stand in an extended header. A path or a size in one would be another than the plain one's."""
        if len(body) > _MAX_EXTENDED:
            raise InvalidTar(name, f"its extended header has {len(body):,} bytes")
        keys = {line.partition(b"=")[0].rpartition(b" ")[2].decode("latin-1") for line in body.splitlines() if line}
        if keys - _TIMES:
            raise InvalidTar(name, f"its extended header changes {', '.join(sorted(keys - _TIMES))[:200]}")

    def _read_end(self) -> None:
        """A second empty block, then nothing but padding."""
        zeros = 0
        while block := self._read(1 << 16):
            if block.count(0) != len(block):
                raise InvalidTar(None, f"it goes on behind its end, which is at byte {self._position - len(block):,}")
            zeros += len(block)
        if zeros < tarfile.BLOCKSIZE:
            raise InvalidTar(None, "it is cut off: the second block of its end is missing")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size) if size else b""
        self._hash.update(data)
        self._position += len(data)
        return data
