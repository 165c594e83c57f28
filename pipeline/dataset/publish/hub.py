"""Pushes files to a dataset repo of the Hugging Face hub, by huggingface_hub: only what the repo lacks, in one commit.

Tars are stored first, some at a time; the hub keeps each whole one, so a push that was killed goes on where it was.
Then one commit puts all in place and removes what went, so that no state of the repo has an index of other shards.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.publish.contents import REPORT, Published
from surd.pipeline.dataset.publish.target import Target
from surd.schemas import SurdError
from surd.schemas.errors import one_line
from surd.schemas.printable import printable

_TYPE = "dataset"
_AT_ONCE = 8  # files that are stored by one call
_THREADS = 4
_SMALL = 10_000_000  # bytes; what is larger the hub never takes into the commit itself
#: What of a repo is ours: the rest, such as .gitattributes, stays as it is.
_OURS = ("shards/", "columns/")
_OUR_FILES = ("README.md", "croissant.json", REPORT)


@dataclass(frozen=True)
class Difference:
    """Between a dataset and a repo. ``gone``: files of the repo that are no longer part of the dataset; ``replaced``:
    how many files the history of the repo keeps another version of."""

    parent: str | None
    changed: list[Published]
    unchanged: list[Published]
    gone: list[str]
    replaced: int

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.changed)


class HubRepo:
    """One branch of a dataset repo. Each method raises SurdError where the hub cannot be reached or refuses."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._api = HfApi(library_name="surd")

    def prepare(self, *, public: bool) -> list[str]:
        """Make the repo and the branch where they are missing; returns notes on what is not as asked for.

        Raises SurdError without a token that may write, and where the repo is public and that was not asked for.
        """
        with self._errors():
            if not get_token():
                raise SurdError(
                    "HF_TOKEN is missing: the hub needs a token that may write; set it, or run hf auth login"
                )
            self._api.whoami()
            is_private = self._make_repo(public=public)
            if self.target.revision != constants.DEFAULT_REVISION and not self.target.revision.startswith("refs/"):
                self._api.create_branch(
                    self.target.repo_id, branch=self.target.revision, repo_type=_TYPE, exist_ok=True
                )
        if not is_private and not public:
            raise SurdError(f"{self.target} is a public repo; give --public to publish there, or another name")
        if is_private and public:
            return [f"{self.target} is private and stays so; its settings on {self.target.url}/settings make it public"]
        return []

    def _make_repo(self, *, public: bool) -> bool:
        """Whether it is private."""
        try:
            return bool(self._api.repo_info(self.target.repo_id, repo_type=_TYPE).private)
        except RepositoryNotFoundError:
            self._api.create_repo(self.target.repo_id, repo_type=_TYPE, private=not public, exist_ok=True)
            return not public

    def difference(self, files: Sequence[Published]) -> Difference:
        """What a push of these files would change."""
        with self._errors():
            revision = self.target.revision
            parent = self._api.repo_info(self.target.repo_id, repo_type=_TYPE, revision=revision).sha
            there = {
                entry.path: entry
                for entry in self._api.list_repo_tree(
                    self.target.repo_id, recursive=True, revision=revision, repo_type=_TYPE
                )
                if isinstance(entry, RepoFile)
            }
        changed = [file for file in files if not _is_same(file, there.get(file.path))]
        unchanged = [file for file in files if _is_same(file, there.get(file.path))]
        ours = {path for path in there if path.startswith(_OURS) or path in _OUR_FILES}
        gone = sorted(ours - {file.path for file in files})
        return Difference(parent, changed, unchanged, gone, len(gone) + sum(file.path in there for file in changed))

    def push(
        self, build: Build, difference: Difference, message: str, advance: Callable[[int], None], *, trusted: bool
    ) -> list[str]:
        """Store the changed files and commit them; returns the hub's warnings. ``advance`` is called with bytes.

        ``trusted``: the sha256 of the files were compared just now, and need not be computed again.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        with warnings.catch_warnings(record=True) as notes, self._errors():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)  # of the card, by the hub
            for start in range(0, len(difference.changed), _AT_ONCE):
                batch = difference.changed[start : start + _AT_ONCE]
                operations += self._store(build, batch, trusted=trusted)
                advance(sum(file.size for file in batch))
            operations += [CommitOperationDelete(path, is_folder=False) for path in difference.gone]
            if operations:
                self._api.create_commit(
                    self.target.repo_id, operations, commit_message=message, repo_type=_TYPE,
                    revision=self.target.revision, parent_commit=difference.parent,
                )  # fmt: skip
        return [one_line(note.message) for note in notes if isinstance(note.message, Warning)]

    def check(self, files: Sequence[Published]) -> None:
        """Raise SurdError unless the branch has exactly these files: a .gitignore in a repo leaves some out."""
        left = self.difference(files)
        if wrong := [*(file.path for file in left.changed), *left.gone]:
            raise SurdError(
                f"{self.target} has not got {wrong[0]} as it was sent, and {len(wrong) - 1:,} more file(s) so; remove"
                " its .gitignore, or run the same command again if somebody else pushes to it"
            )

    def _store(self, build: Build, batch: Sequence[Published], *, trusted: bool) -> list[CommitOperationAdd]:
        with TemporaryDirectory() as folder:
            additions = [_addition(build, file, Path(folder), trusted=trusted) for file in batch]
            self._api.preupload_lfs_files(
                self.target.repo_id, additions, repo_type=_TYPE, revision=self.target.revision, num_threads=_THREADS,
                free_memory=True,
            )  # fmt: skip
        for file, addition in zip(batch, additions, strict=True):
            if addition.upload_info.is_hashed and addition.upload_info.sha256.hex() != file.sha256:
                raise DamagedFile(build, file.path, "is not what its manifest states, and nothing was published")
        return additions

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SurdError:
            raise
        except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
            raise SurdError(_sentence(error, self.target)) from None


def _addition(build: Build, file: Published, folder: Path, *, trusted: bool) -> CommitOperationAdd:
    """Small files go as bytes: the hub may want them in the commit, when a copy in ``folder`` is gone."""
    local = build.local_path(file.path)
    if file.data is not None or file.size < _SMALL:
        return CommitOperationAdd(file.path, file.data if file.data is not None else build.read_bytes(file.path))
    if local is None:
        local = folder / hashlib.sha256(file.path.encode()).hexdigest()
        build.download(file.path, local)
    addition = CommitOperationAdd(file.path, str(local.absolute()))
    if trusted:
        addition.upload_info.sha256 = bytes.fromhex(file.sha256)
    return addition


def _is_same(file: Published, there: RepoFile | None) -> bool:
    if there is None or there.size != file.size:
        return False
    if there.lfs:
        return bool(there.lfs.sha256 == file.sha256)
    return file.git_oid is not None and there.blob_id == file.git_oid


def _sentence(error: Exception, target: Target) -> str:
    """What a person can do about an error of the hub. No token is ever part of it."""
    cause: BaseException | None = error
    while isinstance(cause, RuntimeError) and cause.__cause__:
        cause = cause.__cause__
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: huggingface_hub makes no requests; unset it to publish"
    if isinstance(cause, httpx2.TransportError):
        why = f"{type(cause).__name__}: {one_line(cause)}"
        return f"{constants.ENDPOINT} cannot be reached ({printable(why)}); run the same command again, which goes on"
    if not isinstance(cause, HfHubHTTPError):
        why = printable(one_line(cause if isinstance(cause, Exception) else error))
        return f"{target}: the push failed ({why}); run the same command again, which goes on where it was"
    status = cause.response.status_code if cause.response is not None else 0
    said = printable(one_line(Exception(cause.server_message or ""))) if cause.server_message else f"status {status}"
    if status == 401:
        return f"HF_TOKEN is refused by {constants.ENDPOINT} ({said}): it is wrong or expired; make a new one"
    if status == 403:
        return f"HF_TOKEN may not write to {target} ({said}); give one that may, or another OWNER"
    if status == 404:
        branch = printable(target.revision)
        return f"{target} has no branch {branch!r}, or HF_TOKEN may not see it ({said}); check --revision"
    if status in (409, 412):
        return f"{target} was changed by somebody else meanwhile ({said}); run the same command again"
    return f"{target}: the hub answered {status} ({said}); run the same command again, which goes on where it was"
