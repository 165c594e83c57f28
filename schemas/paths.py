"""Paths as people type them: only ``scheme://`` makes an address of one, and no character of a name means anything."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

_MAGIC = {*"*?["}  # fsspec's rm and mv glob for paths with one of these


def open_path(path: str, **settings: Any) -> tuple[Any, str]:
    """The filesystem of a path or fsspec URL, and the path there. ``settings``: of the filesystem of a URL.

    fsspec itself takes ``a::b`` for a chain of protocols. Raises ValueError or ImportError where nothing installed
    speaks a URL's protocol.
    """
    if "://" in path:
        return fsspec.core.url_to_fs(path, **settings)
    return fsspec.filesystem("file"), str(absolute(path))


def absolute(path: str | Path) -> Path:
    """The absolute path, with the home folder for ``~``; ``~name`` of nobody is a name like any other."""
    return Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 - pathlib's raise for ~nobody and circular links


def list_names(filesystem: Any, folder: str) -> list[str]:
    """Names in a folder, sorted; empty where there is none. fsspec's ``glob`` would take ``[v1]`` for a pattern."""
    try:
        found = filesystem.ls(folder, detail=False, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({name.rstrip("/").rsplit("/", 1)[-1] for name in found})


def list_sizes(filesystem: Any, folder: str) -> dict[str, int]:
    """Name -> bytes of the files in a folder; empty where there is none."""
    try:
        if isinstance(filesystem, LocalFileSystem):  # whose own listing takes eight times as long
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if _is_file(entry)}
        found = filesystem.ls(folder, detail=True, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {one["name"].rstrip("/").rsplit("/", 1)[-1]: int(one["size"]) for one in found if one["type"] == "file"}


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a circular link
        return False


def remove_files(filesystem: Any, paths: list[str]) -> None:
    """Remove many files, in few requests on an object store; some of them may be gone."""
    if isinstance(filesystem, LocalFileSystem):
        for path in paths:
            Path(path).unlink(missing_ok=True)
        return
    plain = [path for path in paths if not _MAGIC & {*path}]
    if plain:
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm(plain)
    for path in set(paths) - set(plain):
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(path)


def remove(filesystem: Any, path: str) -> None:
    """Remove a file, or a folder with all in it: that one alone, also where its name has ``*`` in it."""
    if not _MAGIC & {*path}:
        filesystem.rm(path, recursive=True)
        return
    if not filesystem.isdir(path):
        filesystem.rm_file(path)
        return
    folders = []
    for folder, _, files in filesystem.walk(path):
        folders.append(folder)
        for name in files:
            filesystem.rm_file(f"{folder}/{name}")
    for folder in reversed(folders):
        with contextlib.suppress(FileNotFoundError):  # an object store has no folders
            filesystem.rmdir(folder)
