"""Which files of a shard belong to one sample: those with one path without extensions, as WebDataset has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

IMAGES = ("jpg", "jpeg", "png", "webp")


@dataclass
class SampleFiles:
    """The names of one sample's files; ``fault``: why it has no picture although it has picture files."""

    image: str | None = None
    document: str | None = None  # .json
    text: str | None = None  # .txt
    fault: str | None = None
    others: list[str] = field(default_factory=list)


def samples(names: Iterable[str]) -> dict[str, SampleFiles]:
    """Key -> its files. The key is the full path up to the first dot of its last part: ``a/1`` of ``a/1.mask.png``.

    A picture under a longer extension (``1.mask.png``) is not the sample's, if there is one under a plain extension.
    Where there is none, the dots are part of the names (``photo.v2.jpg`` with ``photo.v2.json``), unless several such
    pictures share one document or text, of which it is not known which they describe.
    """
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        groups.setdefault(f"{folder}{slash}{stem}", {})[extension] = name
    found: dict[str, SampleFiles] = {}
    for key, files in groups.items():
        dotted = [extension for extension in files if "." in extension and _last(extension) in IMAGES]
        plain = [extension for extension in files if extension.lower() in IMAGES]
        shares = any(extension.lower() in ("json", "txt") for extension in files)
        if plain or not dotted or (len(dotted) > 1 and shares):
            found[key] = _sample(files, plain, dotted)
            continue
        for extension in dotted:
            stem = extension.rpartition(".")[0]
            own = {_last(one): name for one, name in files.items() if one.rpartition(".")[0] == stem}
            if len(dotted) == 1:
                own = {one.lower(): name for one, name in files.items() if "." not in one} | own
            found[f"{key}.{stem}"] = _sample(own, [one for one in own if one in IMAGES], [])
    return found


def _sample(files: dict[str, str], plain: list[str], dotted: list[str]) -> SampleFiles:
    by_extension = {extension.lower(): name for extension, name in files.items()}
    sample = SampleFiles(document=by_extension.get("json"), text=by_extension.get("txt"), others=[*files.values()])
    pictures = plain or dotted
    if len(pictures) == 1:
        sample.image = files[pictures[0]]
    elif pictures:
        named = ", ".join(sorted(pictures))
        sample.fault = (
            f"it holds {len(pictures)} pictures ({named}), of which it is not known which the prompt describes"
        )
    return sample


def _last(extension: str) -> str:
    return extension.rpartition(".")[2].lower()
