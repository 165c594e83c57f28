"""DiffusionDB on disk: folders part-NNNNNN with their JSON, and metadata.parquet if present."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline import untrusted_json
from surd.pipeline.sources import RecordStream, new_record
from surd.pipeline.sources.local_files import FolderListing, closed_folders, named_folder, os_message, stamps
from surd.pipeline.sources.table_reader import storable
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

LICENCE = "CC0-1.0"
TERMS = "https://huggingface.co/datasets/poloclub/diffusiondb"
BLURRED = 2.0  # image_nsfw of a picture that the service itself blurred
_PART = re.compile(r"part-(\d{6})")
_TABLES = ("metadata.parquet", "metadata-large.parquet")
_EXTRA = ("image_nsfw", "prompt_nsfw", "width", "height")
_PARAMS = {"se": "seed", "c": "cfg_scale", "st": "steps", "sa": "sampler"}


class DiffusionDb(RecordStream):
    """Every ``part-NNNNNN`` folder below a folder: one record per image in its JSON. CC0-1.0.

    https://huggingface.co/datasets/poloclub/diffusiondb. Author (a hash), time and NSFW scores are in metadata.parquet,
    which is read part by part. A part that is still a zip is named in the error: unpack it.
    """

    def __init__(self, path: str, config: BuildConfig) -> None:
        self._root = named_folder("diffusiondb", path)
        self.name = "diffusiondb"  # image names are globally unique

    def fingerprint(self) -> str:
        """Names, sizes and times of the parts' JSON files and of the tables."""
        tables = [name for name in _TABLES if (self._root / name).is_file()]
        parts, listing = self._parts()
        documents = [(part / f"{part.name}.json").relative_to(self._root).as_posix() for part in parts]
        return stamps(self._root, [*tables, *documents, *sorted(listing.closed)])

    def records(self) -> Iterator[SourceRecord]:
        parts, listing = self._parts()
        if not parts and not listing.closed:
            zips = "; its parts are zip files: unpack each into a folder of its name" if self._zips() else ""
            raise SurdError(
                f"config field 'source' names {str(self._root)!r}, which holds no folder like part-000001{zips}"
            )
        for part in parts:
            yield from self._part(part)
        yield from closed_folders(self.name, listing)

    def location(self, url: str) -> Path:
        path = (self._root / url).resolve()
        if Path(url).is_absolute() or not path.is_relative_to(self._root):
            raise ValueError("the path leaves the folder")
        return path

    def _parts(self) -> tuple[list[Path], FolderListing]:
        """The part folders at any depth, by number; and the folders that cannot be entered, which may hold more."""
        if _PART.fullmatch(self._root.name):
            return [self._root], FolderListing()
        parts, listing = [], FolderListing()
        for folder, folders, _ in os.walk(self._root, onerror=lambda error: listing.add_closed(error, self._root)):
            parts += [Path(folder) / name for name in folders if _PART.fullmatch(name)]
            folders[:] = [name for name in folders if not _PART.fullmatch(name)]
        return sorted(parts, key=lambda path: (path.name, path)), listing

    def _zips(self) -> bool:
        return any(self._root.rglob("part-*.zip"))

    def _part(self, part: Path) -> Iterator[SourceRecord]:
        document, where = part / f"{part.name}.json", part.relative_to(self._root).as_posix()
        try:
            entries = untrusted_json.parse(document.read_bytes())
            problem = None if isinstance(entries, dict) else "it is no JSON object"
        except (OSError, ValueError) as error:
            entries, problem = {}, os_message(error)
        if problem:
            fault = f"{part.name}.json cannot be read: {to_text(problem)}"
            yield new_record(self.name, f"{part.name}.json").reject("collect", Reason.UNREADABLE_FILE, fault)
            return
        metadata = self._metadata(int(part.name[5:]))
        for name, entry in entries.items():
            yield self._record(where, name, entry, metadata.get(name, {}))

    def _metadata(self, part: int) -> dict[str, dict[str, Any]]:
        """The tables' rows of the images of a part, by image name; empty if they cannot be read."""
        metadata: dict[str, dict[str, Any]] = {}
        for table in _TABLES:
            try:
                rows = pq.read_table(self._root / table, filters=[("part_id", "==", part)]).to_pylist()
            except (OSError, pa.ArrowException, ValueError):
                continue
            metadata |= {str(row.get("image_name")): row for row in rows}
        return metadata

    def _record(self, part: str, name: str, entry: Any, metadata: dict[str, Any]) -> SourceRecord:
        """One image, with the fields of its JSON entry ``{"p", "se", "c", "st", "sa"}`` that are present."""
        entry = entry if isinstance(entry, dict) else {}
        params = {word: entry[short] for short, word in _PARAMS.items() if entry.get(short) is not None}
        extra = {key: storable(metadata[key]) for key in _EXTRA if key in metadata}
        score = metadata.get("image_nsfw")
        record = new_record(
            self.name,
            to_text(name) or "",
            prompt=to_text(entry.get("p")) or to_text(metadata.get("prompt")) or None,
            params=untrusted_json.dump(params) if params else None,
            author=to_text(metadata.get("user_name")) or None,
            licence=LICENCE,
            terms=TERMS,
            nsfw_level="true" if isinstance(score, float) and score >= BLURRED else None,
            created_at=to_text(storable(metadata.get("timestamp"))),
            extra=untrusted_json.dump(extra) if extra else None,
        )
        url = f"{part}/{name}" if part != "." else name
        try:
            problem = None if to_text(name) == name and self.location(url).is_file() else "there is no such file"
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            return record.reject("collect", Reason.NO_IMAGE, f"{to_text(url)}: {problem}")
        return record.model_copy(update={"url": url})
