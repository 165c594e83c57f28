"""A folder that a trainer opens: ``images/`` with a caption file beside each picture, and the trainer's own config."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.export import ShardSamples
from surd.pipeline.dataset.export.caption_lines import SEVERAL, caption_lines
from surd.pipeline.dataset.export.options import CACHE, IMAGES, RECORD, ExportRecord, TrainerOptions
from surd.schemas import SurdError

_KEY = re.compile(r"[0-9a-f]{16}")
_SHOWN = 3  # captions that a config may show as prompts of samples


@dataclass(frozen=True, kw_only=True)
class TrainerFolder:
    """What a trainer's config has to say of a folder.

    ``root``: where the trainer finds it; ``several``: a caption file may have several lines; ``lines``: those of the
    longest; ``prompts``: a few captions.
    """

    root: str
    resolution: int
    several: bool
    lines: int
    prompts: tuple[str, ...]

    @property
    def images(self) -> str:
        return self.below(IMAGES)

    @property
    def cache(self) -> str:
        """Where the trainer may keep what it computes of the pictures: a new export removes it."""
        return self.below(CACHE)

    def below(self, name: str) -> str:
        """The path of a file of the folder, as the trainer opens it."""
        return name if self.root == "." else f"{self.root.rstrip('/')}/{name}"

    @property
    def name(self) -> str:
        """A name for the set in the trainer's own files: the folder's, as far as it is plain."""
        return re.sub(r"[^A-Za-z0-9-]+", "-", PurePath(self.root).name).strip("-")[:60] or "surd"


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A trainer: the config ``files`` that it reads, by name, and whether it ``draws`` one line of a caption file.

    ``escape`` is applied to each line where there are several.
    """

    name: str
    draws: bool
    files: Callable[[TrainerFolder], dict[str, str]]
    escape: Callable[[str], str] = str


def write_folder(
    build: Build, out: Build, parts: Iterator[ShardSamples], *, trainer: Trainer, options: TrainerOptions, root: str
) -> None:
    """Write pictures, caption files, config and, as proof that all are there, the record. Raises SurdError."""
    several = options.caption in SEVERAL
    escape = trainer.escape if several else str
    count, most = 0, 1
    prompts: list[str] = []
    for part in parts:
        for each in part.samples:
            key = checked_key(each.sample.key)
            lines = caption_lines(each, options)
            out.write_bytes(f"{IMAGES}/{key}.{each.sample.ext}", each.image, durable=False)
            out.write_bytes(f"{IMAGES}/{key}.txt", "\n".join(map(escape, lines)).encode(), durable=False)
            count, most = count + 1, max(most, len(lines))
            if len(prompts) < _SHOWN:
                prompts.append(lines[0])
    folder = TrainerFolder(
        root=root, resolution=options.resolution, several=several, lines=most, prompts=tuple(prompts)
    )
    files = trainer.files(folder)
    for name, text in files.items():
        out.write_bytes(name, text.encode())
    write_record(out, trainer.name, options, count, [IMAGES, *files])


def write_record(out: Build, layout: str, options: TrainerOptions, count: int, files: list[str]) -> None:
    out.write_json(RECORD, ExportRecord(layout=layout, options=options, samples=count, files=sorted(files)))


def check_lines(trainer: Trainer, options: TrainerOptions) -> None:
    """Raise SurdError when several captions are asked of a trainer that takes a whole file for one."""
    if options.caption in SEVERAL and not trainer.draws:
        raise SurdError(
            f"--caption is {options.caption!r}: {trainer.name} takes all lines of a caption file for one caption;"
            " give simple, complex or the name of a caption"
        )


def checked_key(key: str) -> str:
    """A sample's key, which becomes a file name. Raises SurdError unless it is one of the format."""
    if not _KEY.fullmatch(key):
        raise SurdError(f"a sample's key is {key[:40]!r}, not 16 hex digits; check the dataset with surd verify")
    return key
