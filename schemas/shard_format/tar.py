"""Tars of the shard format: the one rule for headers, a writer, and a reader of whole tars front to back.

A tar of the format holds plain files, each name once, and nothing behind its end. Whatever else a tar can hold (links,
devices, folders, sparse files, names in extended headers) is an error. Nothing is ever extracted, and no size that a
header claims is believed before the bytes are there. ``sur_adapter.data.tar_index`` reads single members by the same
header rule.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple, Protocol

import numpy as np

from surd.schemas.printable import printable

BLOCK = tarfile.BLOCKSIZE
MAX_MEMBER = 1 << 30  # bytes; members are read into memory, and no image or array of a dataset is larger
MAX_EXTENDED = 1 << 16
_TIMES = {b"mtime", b"atime", b"ctime"}  # what webdataset's own writer puts into extended headers
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.GNUTYPE_LONGNAME: "an extended header",
    tarfile.GNUTYPE_LONGLINK: "an extended header",
    tarfile.XGLTYPE: "an extended header",
}
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class SupportsWrite(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes, /) -> int: ...

    def tell(self) -> int: ...


class InvalidTar(Exception):
    """The tar breaks a rule of the format; ``member`` is where, None for the tar as a whole."""

    def __init__(self, member: str | None, problem: str) -> None:
        super().__init__(problem if member is None else f"{printable(member)}: {problem}")
        self.member, self.problem = member, problem


class TarHeader(NamedTuple):
    """What a header block says; ``extended`` if the body only holds times for the member that follows."""

    name: str
    size: int
    extended: bool


def parse_header(block: bytes) -> TarHeader:
    """A header of BLOCK bytes that are not all zero. Raises InvalidTar unless it is that of a plain file, or of times.

    The checksum is not compared here: see ``damaged_headers``.
    """
    kind = block[156:157]
    name = _text(block[:100])
    if block[345]:  # ustar's prefix
        name = f"{_text(block[345:500])}/{name}"
    try:
        size = int(tarfile.nti(block[124:136]))  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        size = -1
    if size < 0:
        raise InvalidTar(name, "its size cannot be read")
    if kind == tarfile.XHDTYPE:
        return TarHeader(name, size, True)
    if kind not in _PLAIN or name.endswith("/"):
        raise InvalidTar(
            name.rstrip("/") or name,
            f"it is {_KINDS.get(kind, 'a folder' if kind in _PLAIN else 'of an unknown kind')}, not a plain file",
        )
    if name.startswith(("/", "\\")):
        raise InvalidTar(name, "its path is absolute")
    if ".." in name.replace("\\", "/").split("/"):
        raise InvalidTar(name, "its path leads out of the folder")
    return TarHeader(name, size, False)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def damaged_headers(blocks: Sequence[bytes]) -> list[int]:
    """Places of header blocks whose checksum is wrong; all at once, since one by one takes as long as reading them."""
    grid = np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, BLOCK)
    sums = grid.sum(axis=1, dtype=np.int64) - grid[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    stated = (block[148:156].strip(b" \0").lstrip(b"0") for block in blocks)
    return [at for at, (text, total) in enumerate(zip(stated, sums.tolist(), strict=True)) if text != b"%o" % total]


def check_extended(header: TarHeader, body: bytes) -> None:
    """Raise InvalidTar unless an extended header holds times only: a path or size would replace the plain one."""
    if header.size > MAX_EXTENDED:
        raise InvalidTar(header.name, f"its extended header has {header.size:,} bytes")
    keys = {line.partition(b"=")[0].rpartition(b" ")[2] for line in body.splitlines() if line}
    if others := sorted(printable(key.decode("latin-1")) for key in keys - _TIMES):
        raise InvalidTar(header.name, f"its extended header changes {', '.join(others)[:200]}")


def padded(size: int) -> int:
    """``size`` rounded up to whole blocks: what a body takes in a tar."""
    return -(-size // BLOCK) * BLOCK


def tar_writer(file: SupportsWrite) -> tarfile.TarFile:
    """A tar written through ``file``, each member's bytes at one go: tarfile would take them 10 KB at a time.

    Its headers are those of plain ustar, which are the same bytes as tarfile's default and made in half the time.
    """
    return tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT, copybufsize=2**24)  # type: ignore[call-overload]


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add bytes with nothing in the header that differs between runs or machines; returns their offset in the tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    return tar.offset - padded(len(data))


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
        """The members. Raises InvalidTar at the first that breaks a rule, and when the tar is cut or goes on."""
        seen: set[str] = set()
        while (header := self._header()) is not None:
            if header.extended:
                check_extended(header, self._body(header))
                continue
            if header.name in seen:
                raise InvalidTar(header.name, "it is there twice")
            seen.add(header.name)
            offset = self._position
            yield TarMember(header.name, offset, self._body(header))

    def _header(self) -> TarHeader | None:
        block = self._read(BLOCK)
        where = self._position - len(block)
        if not block:
            raise InvalidTar(None, f"it is cut off: its end is missing after {self._position:,} bytes")
        if len(block) < BLOCK:
            raise InvalidTar(None, f"it is damaged at byte {where:,}: truncated header")
        if not block.strip(b"\0"):
            self._read_end()
            return None
        if damaged_headers([block]):
            raise InvalidTar(None, f"it is damaged at byte {where:,}: bad checksum")
        return parse_header(block)

    def _body(self, header: TarHeader) -> bytes:
        left = self._total - self._position
        if header.size > left:
            raise InvalidTar(header.name, f"it claims {header.size:,} bytes and {left:,} are left: the tar is cut off")
        if header.size > MAX_MEMBER:
            raise InvalidTar(header.name, f"it has {header.size:,} bytes; no member may have more than {MAX_MEMBER:,}")
        data = self._read(header.size)
        padding = self._read(-header.size % BLOCK)
        if len(data) + len(padding) != padded(header.size):
            raise InvalidTar(header.name, "the tar is cut off inside it")
        return data

    def _read_end(self) -> None:
        """A second empty block, then nothing but padding."""
        zeros = 0
        while block := self._read(1 << 16):
            if block.count(0) != len(block):
                raise InvalidTar(None, f"it goes on behind its end, which is at byte {self._position - len(block):,}")
            zeros += len(block)
        if zeros < BLOCK:
            raise InvalidTar(None, "it is cut off: the second block of its end is missing")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size) if size else b""
        self._hash.update(data)
        self._position += len(data)
        return data
