"""An index of a tar's members, so that any sample is one read at a known offset.

Only the headers are read. Shards are the simplest of tars: regular files called ``{key}.{suffix}``, a sample's files
side by side. What a header may be is defined in surd.schemas.shard_format.tar; nothing is ever extracted.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardInfo
from surd.schemas.printable import printable
from surd.schemas.shard_format.tar import (
    BLOCK,
    MAX_EXTENDED,
    InvalidTar,
    check_extended,
    damaged_headers,
    padded,
    parse_header,
)

REPAIR = "repair it with surd verify BUILD --repair"
_NAME = re.compile(r"([0-9A-Za-z_-]+)\.([0-9a-z]+(?:\.[0-9a-z]+)*)", re.ASCII)

Span = tuple[int, int]


class TarIndex:
    """An open tar, which this closes: ``keys`` in order and, for each, ``members[i]``: suffix -> (offset, size).

    ``name`` is what messages call the file. Raises SurdError naming file and member when the tar is anything but what
    ``info``, the manifest's entry, and the format say.
    """

    def __init__(self, file: BinaryIO, name: str, info: ShardInfo) -> None:
        self.name, self._file = name, file
        self._descriptor = self._file.fileno()
        try:
            self.keys, self.members = self._scan(os.fstat(self._descriptor).st_size, info)
        except InvalidTar as error:
            self.close()
            raise self._error(error.member or "", error.problem) from None
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise SurdError(f"{self.name}: ends at byte {offset + len(data)}, after it was opened; {REPAIR}")
        return data

    def close(self) -> None:
        self._file.close()

    def _scan(self, size: int, info: ShardInfo) -> tuple[list[str], list[dict[str, Span]]]:
        samples: dict[str, dict[str, Span]] = {}
        members: dict[str, Span] = {}
        headers: list[bytes] = []
        names: list[str] = []
        current, offset = "", 0
        while (block := self._block(offset, current, members)).strip(b"\0"):
            header = parse_header(block)
            headers.append(block)
            names.append(header.name)
            if header.extended:
                check_extended(header, self._file.read(min(header.size, MAX_EXTENDED)))
                offset += BLOCK + padded(header.size)
                continue
            parts = _NAME.fullmatch(header.name)
            if parts is None:
                raise InvalidTar(header.name, "its name is not of the form KEY.SUFFIX")
            key, suffix = parts[1], parts[2]
            if key != current:
                if key in samples:
                    raise InvalidTar(header.name, "it comes after other samples, away from its own")
                current, members = key, samples.setdefault(key, {})
            if suffix in members:
                raise InvalidTar(header.name, "it is there twice")
            members[suffix] = (offset + BLOCK, header.size)
            offset += BLOCK + padded(header.size)
            if offset > size:
                raise InvalidTar(header.name, f"it claims {header.size} bytes, {offset - size} more than there are")
        if headers and (damaged := damaged_headers(headers)):
            raise InvalidTar(names[damaged[0]], "its header is damaged")
        if len(samples) != info.count:
            raise SurdError(f"{self.name}: holds {len(samples)} samples where its manifest says {info.count}; {REPAIR}")
        if size != info.bytes:
            raise SurdError(f"{self.name}: is {size} bytes where its manifest says {info.bytes}; {REPAIR}")
        return list(samples), list(samples.values())

    def _block(self, offset: int, key: str, members: dict[str, Span]) -> bytes:
        self._file.seek(offset)
        block = self._file.read(BLOCK)
        if len(block) < BLOCK:
            where = f"after member '{key}.{next(reversed(members))}'" if members else "before its first member"
            raise SurdError(f"{self.name}: cut off {where}; {REPAIR}")
        return block

    def _error(self, member: str, problem: str) -> SurdError:
        return SurdError(f"{self.name}: member '{printable(member[:120])}': {problem}; {REPAIR}")
