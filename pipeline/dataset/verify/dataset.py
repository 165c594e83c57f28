"""Verification of a finished dataset, file by file, against every promise of the format.

Reads each tar once, hashing while it checks; runs no model, writes nothing, and needs of a build only ``shards/`` and
``columns/``, so it serves for a dataset that somebody else made.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TypeVar

from pydantic import BaseModel

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.column import ColumnChecker
from surd.pipeline.dataset.verify.shard import Index, ShardChecker
from surd.schemas import ColumnManifest, ShardInfo, ShardManifest, SurdError
from surd.schemas.manifest import EMPTY_PROMPT_KEY, EMPTY_PROMPT_TAR
from surd.schemas.shard_format.manifests import TAR_NAME, InvalidManifest, parse_manifest
from surd.schemas.shard_format.tar import InvalidTar, TarMember, TarReader

M = TypeVar("M", bound=BaseModel)
SHARDS, INDEX, SHARD_MANIFEST = "shards", "shards/index.parquet", "shards/manifest.json"


@dataclass(frozen=True)
class Finding:
    """One broken promise, in one sentence."""

    file: str
    member: str | None
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.member, self.problem) if part)


@dataclass(frozen=True)
class Checked:
    """One file that was read, how large it is, and what was found in it."""

    file: str
    size: int
    findings: Sequence[Finding] = ()
    keys: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Manifests:
    """What the manifests of a dataset list; ``findings`` are what is wrong with manifests, index and listing."""

    shards: ShardManifest | None
    columns: dict[str, ColumnManifest]
    index: Index
    findings: list[Finding]

    @property
    def bytes(self) -> int:
        """Of all tars, as their manifests state them."""
        sets = [self.shards.shards if self.shards else [], *(column.tars for column in self.columns.values())]
        return sum(info.bytes for infos in sets for info in infos)


def read_manifests(build: Build) -> Manifests:
    """Read manifests and index. Raises SurdError if the folder holds no dataset."""
    if not build.exists(SHARD_MANIFEST) and not build.ledger("pack").units():
        raise SurdError(f"build is {build.root!r} and holds no {SHARD_MANIFEST}; give the folder that holds shards/")
    findings: list[Finding] = []
    manifest = _manifest(build, SHARD_MANIFEST, ShardManifest, findings)
    shards = manifest.shards if manifest else []
    if manifest:
        findings += _listing_faults(build, SHARDS, manifest.count, shards, {"manifest.json", "index.parquet"})
    index, faults = Index.read(build, INDEX, {info.name: info.count for info in shards})
    findings += [Finding(INDEX, None, fault) for fault in faults]
    columns = {}
    if build.is_file("columns"):
        findings.append(Finding("columns", None, "it is a file where a folder belongs; move it away"))
    for name in build.listdir("columns") if not build.is_file("columns") else []:
        column = _manifest(build, f"columns/{name}/manifest.json", ColumnManifest, findings)
        if column:
            columns[name] = column
            findings += _column_faults(build, name, column, shards)
    return Manifests(manifest, columns, index, findings)


def verify(build: Build, manifests: Manifests) -> Iterator[Checked]:
    """Every shard, then every tar of every column, in their order; they are read side by side on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            keys = {EMPTY_PROMPT_TAR: [EMPTY_PROMPT_KEY]}
            for checked in threads.map(partial(_check_shard, build, manifests.index), _shards(manifests)):
                yield checked
                name = checked.file.rpartition("/")[2]
                keys[name] = checked.keys or list(manifests.index.rows(name) or ())
            for name, column in manifests.columns.items():
                check = partial(_check_column, build, column, name, keys, column.bucket_digits)
                yield from threads.map(check, _plainly_named(column.tars))
        finally:
            threads.shutdown(cancel_futures=True)


def _shards(manifests: Manifests) -> list[ShardInfo]:
    return _plainly_named(manifests.shards.shards) if manifests.shards else []


def _plainly_named(infos: list[ShardInfo]) -> list[ShardInfo]:
    """Those that cannot lead out of their folder; the others are findings already."""
    return [info for info in infos if TAR_NAME.fullmatch(info.name)]


def _check_shard(build: Build, index: Index, info: ShardInfo) -> Checked:
    checker = ShardChecker(index.rows(info.name))
    return _check_tar(build, f"{SHARDS}/{info.name}", info, checker.member, checker.end)


def _check_column(
    build: Build, column: ColumnManifest, name: str, keys: dict[str, list[str]], digits: dict[str, str], info: ShardInfo
) -> Checked:
    checker = ColumnChecker(column, keys.get(info.name) or None, digits.get(info.name))
    return _check_tar(build, f"columns/{name}/{info.name}", info, checker.member, checker.end)


def _check_tar(
    build: Build,
    file: str,
    info: ShardInfo,
    member: Callable[[TarMember], Iterator[tuple[str, str]]],
    end: Callable[[], tuple[list[str], list[tuple[str | None, str]]]],
) -> Checked:
    """One tar, read once: its members by ``member``, what only its end shows by ``end``, then count, size and hash."""
    if not build.exists(file):
        return Checked(file, info.bytes, [Finding(file, None, "it is listed in the manifest and missing")])
    findings: list[Finding] = []
    try:
        size = build.size(file)
        with build.open(file) as opened:
            tar = TarReader(opened, size)
            for found in tar:
                findings += [Finding(file, name, problem) for name, problem in member(found)]
    except InvalidTar as unsound:
        findings.append(Finding(file, unsound.member, unsound.problem))
        return Checked(file, info.bytes, findings)
    except OSError as error:  # a folder of that name, no rights, a failing disk
        findings.append(Finding(file, None, f"it cannot be read ({error.strerror or error.__class__.__name__})"))
        return Checked(file, info.bytes, findings)
    keys, problems = end()
    findings += [Finding(file, name, problem) for name, problem in problems]
    if len(keys) != info.count:
        findings.append(Finding(file, None, f"it holds {len(keys):,} samples and its manifest says {info.count:,}"))
    if size != info.bytes:
        findings.append(Finding(file, None, f"it has {size:,} bytes and its manifest says {info.bytes:,}"))
    elif tar.sha256 != info.sha256:
        findings.append(Finding(file, None, f"its sha256 is {tar.sha256[:16]}..., not {info.sha256[:16]}..."))
    return Checked(file, info.bytes, findings, keys)


def _manifest(build: Build, file: str, model: type[M], findings: list[Finding]) -> M | None:
    try:
        return parse_manifest(build.read_bytes(file), model)
    except FileNotFoundError:
        findings.append(Finding(file, None, "it is missing"))
    except OSError as error:
        findings.append(Finding(file, None, f"it cannot be read ({error.strerror or error.__class__.__name__})"))
    except InvalidManifest as error:
        findings.append(Finding(file, error.field, f"it is not a valid {model.__name__}: {error.problem}"))
    return None


def _listing_faults(
    build: Build, folder: str, count: int, infos: list[ShardInfo], beside: set[str]
) -> Iterator[Finding]:
    """A count that does not add up, names that are not valid or come twice, and files that nothing lists."""
    manifest = f"{folder}/manifest.json"
    if count != (total := sum(info.count for info in infos)):
        yield Finding(manifest, None, f"it says {count:,} samples and its tars hold {total:,}")
    names = [info.name for info in infos]
    for name, times in Counter(names).items():
        if times > 1:
            yield Finding(manifest, name, "it is listed twice")
        if not TAR_NAME.fullmatch(name):
            yield Finding(manifest, name, "it is not a valid tar name, such as surd-00000.tar")
    for name in build.listdir(folder):
        if name not in {*names, *beside}:
            yield Finding(f"{folder}/{name}", None, "no manifest lists it")


def _column_faults(build: Build, name: str, column: ColumnManifest, shards: list[ShardInfo]) -> Iterator[Finding]:
    manifest = f"columns/{name}/manifest.json"
    beside = {"manifest.json", *(tar.name for tar in column.tars)}
    yield from _listing_faults(build, f"columns/{name}", column.count, column.shards, beside)
    if column.column != name:
        yield Finding(manifest, None, f"it is the manifest of column {column.column!r}")
    theirs, ours = ([(info.name, info.count) for info in infos] for infos in (column.shards, shards))
    if theirs != ours:
        other = next((a or b for a, b in zip_longest(theirs, ours) if a != b), None)
        yield Finding(manifest, str(other[0]) if other else None, "its tars or their counts are not those of shards/")
