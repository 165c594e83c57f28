"""The shards that a pattern names, their manifest, and the columns beside them."""

from __future__ import annotations

import contextlib
import posixpath
from typing import TypeVar

import aiohttp
from braceexpand import braceexpand
from pydantic import BaseModel

from sur_adapter.data.shard_cache import local_path
from surd.schemas.errors import SurdError
from surd.schemas.manifest import EMPTY_PROMPT_TAR, ColumnManifest, ShardInfo, ShardManifest
from surd.schemas.paths import list_names, open_path
from surd.schemas.shard_format.manifests import InvalidManifest, parse_manifest

EXAMPLE_PATTERN = "data/demo/shards/surd-{00000..00003}.tar"

COMMON_COLUMNS = ("clip-complex", "clip-simple", "latents", "latents-buckets")

M = TypeVar("M", bound=BaseModel)


class DatasetLayout:
    """The shards a pattern names and the build they belong to.

    ``pattern`` is a path or fsspec URL of shards, where braces in the file name stand for a range, or of a build, which
    stands for all of its shards. The manifest is read, the shards
    are not looked at: a thousand of them cost as much as one. Raises SurdError when the pattern matches nothing, when
    it names a shard that the manifest does not list, and when the manifest is missing or broken.
    """

    def __init__(self, pattern: str) -> None:
        shards = _expand(pattern) if pattern.endswith(".tar") else []
        self.root = (posixpath.dirname(shards[0]) or ".") if shards else posixpath.join(pattern, "shards")
        local_path(self.root)  # says so when nothing here speaks its protocol
        self.build = posixpath.dirname(self.root) or (".." if self.root == "." else ".")
        try:
            self.manifest = read_manifest(f"{self.root}/manifest.json", ShardManifest)
        except FileNotFoundError as error:
            raise SurdError(
                f"--shards: {pattern!r} matches no build: {self.root}/manifest.json, which belongs to every build, "
                f"is not there; give a build's folder, or its shards, e.g. {EXAMPLE_PATTERN!r}"
            ) from error
        self.shards = shards or [posixpath.join(self.root, info.name) for info in self.manifest.shards]
        listed = {info.name: info for info in self.manifest.shards}
        unknown = [shard for shard in self.shards if posixpath.basename(shard) not in listed]
        if unknown:
            raise SurdError(
                f"--shards: {pattern!r} names {unknown[0]}, which is not there ({self.root}/manifest.json lists "
                f"{len(listed)} shards); name only shards that are"
            )
        self.infos = [listed[posixpath.basename(shard)] for shard in self.shards]
        if not sum(info.count for info in self.infos):
            raise SurdError(f"--shards: {pattern!r} holds no samples; select more pairs and pack again")

    def columns(self) -> dict[str, ColumnManifest]:
        """Every column beside the shards, by name, sorted. Of a host that lists nothing, those with common names."""
        filesystem, path = open_path(self.build)
        try:
            names = list_names(filesystem, f"{path}/columns")
        except (OSError, aiohttp.ClientResponseError):
            names = []
        found = {}
        for name in sorted(names or COMMON_COLUMNS):
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.column(name)
        return found

    def column(self, name: str) -> ColumnManifest:
        """One column's manifest; FileNotFoundError where there is no such column."""
        return read_manifest(f"{self.build}/columns/{name}/manifest.json", ColumnManifest)

    def column_tars(self, manifest: ColumnManifest) -> list[tuple[str, ShardInfo]]:
        """Path and manifest entry of a column's tar, for each shard."""
        folder = f"{self.build}/columns/{manifest.column}"
        listed = {info.name: info for info in manifest.shards}
        names = [posixpath.basename(shard) for shard in self.shards]
        missing = [name for name in names if name not in listed]
        if missing:
            raise SurdError(f"{folder}/manifest.json: does not list {missing[0]}; embed again")
        return [(f"{folder}/{name}", listed[name]) for name in names]

    def empty_prompt_tar(self, manifest: ColumnManifest) -> str:
        """Path of the tar with the empty prompt's text states, where a column has one."""
        return f"{self.build}/columns/{manifest.column}/{EMPTY_PROMPT_TAR}"


def read_manifest(path: str, model: type[M]) -> M:
    """A document of a build; FileNotFoundError where there is none, SurdError where it is another."""
    try:
        filesystem, inner = open_path(path)
        data = filesystem.cat_file(inner)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except Exception as error:  # every protocol raises its own
        said = f"{type(error).__name__}: {error}"
        raise SurdError(f"{path}: cannot be read ({said}); check the address and your rights to it") from error
    try:
        return parse_manifest(data, model)
    except InvalidManifest as error:
        raise SurdError(f"{path}: not a valid {model.__name__} ({error.problem}); build it again") from None


def _expand(pattern: str) -> list[str]:
    folder, slash, name = pattern.rpartition("/")  # in a folder's name a brace is a brace
    try:
        return [f"{folder}{slash}{shard}" for shard in braceexpand(name)]
    except ValueError as error:
        raise SurdError(f"--shards: {pattern!r} has unbalanced braces; write {EXAMPLE_PATTERN!r}") from error
