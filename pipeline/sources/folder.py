"""A folder of images: one record per file, with prompts from ``pairs.jsonl`` or a caption file beside each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from surd.pipeline import untrusted_json
from surd.pipeline.sources import PAGE, Page, new_record
from surd.pipeline.sources.levels import LEVEL_FIELDS, strictest_level
from surd.pipeline.sources.local_files import (
    SIDECARS,
    FolderListing,
    closed_folders,
    files_below,
    named_folder,
    os_message,
    stamps,
)
from surd.pipeline.sources.sidecars import caption_file, read_sidecar
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

PAIRS = "pairs.jsonl"
_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}


class Folder:
    """A folder at any depth, without hidden files. Records name it by its last part, so that it may move.

    ``pairs.jsonl`` at its root lists images (fields image, prompt, negative_prompt, licence, attribution ...); images
    that it does not list follow, by path. A text file beside an image of the same name is a sidecar, not a record: the
    caption in a ``.txt`` or ``.caption`` is the image's prompt where ``pairs.jsonl`` gives none, before what the image
    file itself says.
    """

    def __init__(self, path: str, config: BuildConfig) -> None:
        self._root = named_folder("folder", path)
        self.name = f"folder:{to_text(self._root.name)}"

    def fingerprint(self) -> str:
        """Names, sizes and times of all files."""
        names = [*self._listing.files, *self._listing.closed]
        # Earlier versions left caption files unread: a build of a folder that has some is not up to date.
        reads = any(caption_file(self._listing, name) for name in names if Path(name).suffix.lower() in _IMAGES)
        return stamps(self._root, names, "caption files" if reads else "")

    def page(self, cursor: str | None) -> Page:
        """A thousand records; the cursor is the index of the next thousand. Raises SurdError on an empty folder."""
        if not self._records:
            raise SurdError(
                f"config field 'source' names the folder {str(self._root)!r}, which is empty; put images there"
            )
        start = int(cursor or 0)
        following = start + PAGE
        return Page(self._records[start:following], str(following) if following < len(self._records) else None)

    def location(self, url: str) -> Path:
        """The file of a record. Raises ValueError if the path leads out of the folder."""
        path = (self._root / url).resolve()
        if Path(url).is_absolute() or not path.is_relative_to(self._root):
            raise ValueError("the path leaves the folder")
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @cached_property
    def _listing(self) -> FolderListing:
        return files_below(self._root)

    @cached_property
    def _records(self) -> list[SourceRecord]:
        files = self._listing.files
        listed = [*self._listed()] if PAIRS in files else []
        listed_ids = {record.source_id for record in listed}
        named = [name for name in files if Path(name).suffix.lower() in _IMAGES]
        images = {*named, *(name.rpartition(".")[0] for name in named)}
        for name in files:
            stem, suffix = name.rpartition(".")[0], Path(name).suffix.lower()
            if name != PAIRS and name not in listed_ids and not (suffix in SIDECARS and stem in images):
                listed.append(self._record(name, {}))
        return listed + closed_folders(self.name, self._listing)

    def _listed(self) -> Iterator[SourceRecord]:
        """One record per line of ``pairs.jsonl``; a line without an image is rejected with a reason."""
        try:
            lines = (self._root / PAIRS).read_bytes().splitlines()
        except OSError as error:
            shown = f"config field 'source' names the folder {str(self._root)!r}, whose {PAIRS} cannot be read"
            raise SurdError(f"{shown} ({os_message(error)}); make it readable, or remove it") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = untrusted_json.parse(line)
                problem = None if isinstance(entry, dict) else "not a JSON object"
            except ValueError as error:
                entry, problem = {}, f"not JSON: {error}"
            image = None if problem else to_text(entry.get("image"))
            if image:
                yield self._record(self._listing.find(image), entry)
            else:
                record = new_record(self.name, f"{PAIRS}:{number}")
                yield record.reject("collect", Reason.NO_IMAGE, f"{PAIRS} line {number}: {problem or 'names no image'}")

    def _record(self, name: str, entry: dict[str, Any]) -> SourceRecord:
        """The record of a file, with the fields of its line in ``pairs.jsonl``; rejected if it is not in the folder."""
        params = entry.get("params")
        record = new_record(
            self.name,
            to_text(name) or "",
            page_url=to_text(entry.get("page_url")),
            prompt=to_text(entry.get("prompt")) or None,
            negative_prompt=to_text(entry.get("negative_prompt")) or None,
            params=untrusted_json.dump(params) if isinstance(params, dict) else None,
            author=to_text(entry.get("author")) or to_text(entry.get("attribution")),
            licence=to_text(entry.get("licence")) or to_text(entry.get("license")),
            terms=to_text(entry.get("terms")),
            nsfw_level=strictest_level(entry.get(name) for name in ("nsfw_level", *LEVEL_FIELDS)),
            created_at=to_text(entry.get("created_at")),
        )
        if to_text(name) != name:
            return record.reject("collect", Reason.NO_IMAGE, "the file's name is not UTF-8; rename it")
        try:
            path = self.location(name)
            problem = None if path.is_file() else "there is no such file"
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            return record.reject("collect", Reason.NO_IMAGE, f"{name}: {problem}")
        record = record.model_copy(update={"url": name})
        return record if record.prompt else self._with_sidecar(record, name)

    def _with_sidecar(self, record: SourceRecord, name: str) -> SourceRecord:
        """The record of a file with the caption that lies beside it, if one does."""
        file = caption_file(self._listing, name)
        if file is None:
            return record.model_copy(update={"detail": self._listing.unread_beside(name)})
        read = read_sidecar(self._root, file)
        return record.model_copy(
            update={
                "prompt": read.prompt,
                "negative_prompt": record.negative_prompt or read.negative_prompt,
                "params": record.params or read.params,
                "detail": read.detail,
            }
        )
