"""Which files of a build leave it: the shards, their index and manifest, and what is asked for beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.dataset.reader import read_manifest
from surd.schemas import ShardInfo, SurdError
from surd.schemas.printable import printable
from surd.schemas.shard_format.manifests import odd_tar_name

MANIFEST, INDEX, REPORT = "shards/manifest.json", "shards/index.parquet", "report.html"
ALL = "all"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Published:
    """A file as it will be in the repo. ``data``: its bytes where they are not those of the build's file ``path``;
    ``git_oid``: git's own hash of it, None of tars, which no hub keeps in git itself."""

    path: str
    size: int
    sha256: str
    git_oid: str | None = None
    data: bytes | None = None

    @classmethod
    def of_bytes(cls, path: str, data: bytes) -> Published:
        git_oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return cls(path, len(data), hashlib.sha256(data).hexdigest(), git_oid, data)


def files_to_publish(build: Build, columns: Sequence[str], *, report: bool) -> list[Published]:
    """Shards, index and manifest; these columns (``all``: every one that is there); the report if asked for.

    Nothing else of a build ever leaves: no fetched bytes, rows, decisions, tombstones or config. The sha256 of tars is
    what their manifests state. Raises SurdError where a file is missing or has another size than its manifest states,
    and where a column is not there.
    """
    manifest = read_manifest(build)
    files = [*_tars(build, "shards", manifest.shards), *_others(build, [INDEX, MANIFEST])]
    present = columns_present(build)
    for name in _names(columns, present):
        if odd := odd_tar_name(present[name]):
            raise DamagedFile(build, f"columns/{name}/manifest.json", f"lists {odd!r}, which is not a valid tar name")
        files += _tars(build, f"columns/{name}", present[name].tars)
        files += _others(build, [f"columns/{name}/manifest.json"])
    if report:
        if not build.exists(REPORT):
            raise SurdError(f"build is {build.root!r} and holds no {REPORT}; leave out --report, or run surd report")
        files += _others(build, [REPORT])
    return files


def _names(asked: Sequence[str], present: Iterable[str]) -> list[str]:
    there = sorted(present)
    if ALL in asked:
        return there
    for name in asked:
        if name not in there:
            have = f"it has {', '.join(there)}" if there else "it has none"
            raise SurdError(f"--columns is {printable(name)!r}: there is no such column ({have}); give another")
    return sorted({*asked})


def _tars(build: Build, folder: str, infos: Sequence[ShardInfo]) -> Iterator[Published]:
    sizes = build.sizes(folder)
    for info in infos:
        file = f"{folder}/{info.name}"
        if info.name not in sizes:
            raise DamagedFile(build, file, "is missing")
        if sizes[info.name] != info.bytes:
            raise DamagedFile(build, file, f"has {sizes[info.name]:,} bytes and its manifest says {info.bytes:,}")
        yield Published(file, info.bytes, info.sha256)


def _others(build: Build, files: Iterable[str]) -> Iterator[Published]:
    for file in files:
        if not build.exists(file):
            raise DamagedFile(build, file, "is missing")
        size = build.size(file)
        digest, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with build.open(file) as opened:
            while data := opened.read(_CHUNK):
                digest.update(data)
                git.update(data)
        yield Published(file, size, digest.hexdigest(), git.hexdigest())
