"""Tars without the members of some records: fetched bytes, shards, columns."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build
from surd.schemas.shard_format.tar import InvalidTar, TarReader, add_member, tar_writer


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A tar as it is now: name of each member -> where its bytes are. ``before``: sha256 of the tar as it was."""

    offsets: dict[str, int]
    sha256: str
    size: int
    before: str
    dropped: int
    dropped_bytes: int

    @property
    def keys(self) -> list[str]:
        """The records that have members, in order."""
        return list(dict.fromkeys(map(key_of, self.offsets)))


def key_of(member: str) -> str:
    """The key of the record that a member belongs to: all before the first dot."""
    return member.partition(".")[0]


def drop_members(build: Build, file: str, keys: Set[str]) -> Contents:
    """Write a tar anew without the members of some records; one that has none of them stays as it is.

    The others keep their bytes and order, so the result is what the stage would have written without those records.
    Raises DamagedFile when it is not a whole tar.
    """
    offsets: dict[str, int] = {}
    dropped, dropped_bytes, size = 0, 0, build.size(file)
    try:
        with reading(build, file), build.open(file) as opened:
            reader = TarReader(opened, size)
            for member in reader:
                if key_of(member.name) in keys:
                    dropped, dropped_bytes = dropped + 1, dropped_bytes + len(member.data)
                else:
                    offsets[member.name] = member.offset
    except InvalidTar as error:
        raise DamagedFile(build, file, f"is damaged ({error})") from None
    before = sha256 = reader.sha256
    if dropped:
        offsets = {}
        with build.writing(file) as out, tar_writer(out) as tar, build.open(file) as opened:
            for member in TarReader(opened, size):
                if key_of(member.name) not in keys:
                    offsets[member.name] = add_member(tar, member.name, member.data)
        sha256, size = out.sha256, out.size
    return Contents(
        offsets=offsets,
        sha256=sha256,
        size=size,
        before=before,
        dropped=dropped,
        dropped_bytes=dropped_bytes,
    )
