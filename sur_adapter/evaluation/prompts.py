"""Evaluation prompts: reads prompt files, ours or a public benchmark's, with categories and facts.

Ours is JSON lines: ``{"prompt": ..., "category": ..., "facts": {group: value}, "complex": ..., "image": ...}``, of
which only the prompt is required. Public ones are recognised by their format: GenEval (JSON lines with ``tag``),
PartiPrompts (``.tsv``), T2I-CompBench (``.txt``, the category in the file's name) and DPG-Bench (a folder of
``ID.txt``, one prompt each). Plain text works too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from surd.schemas.errors import SurdError

CATEGORIES = ("action", "colour", "counting", "relation", "subject", "style")
#: What public benchmarks call our categories; their other categories keep their own names.
OUR_NAMES = {
    "single_object": "subject", "two_object": "subject", "counting": "counting", "colors": "colour",
    "color_attr": "colour", "position": "relation",
    "color": "colour", "numeracy": "counting", "spatial": "relation", "3d_spatial": "relation",
    "non_spatial": "action",
    "Quantity": "counting", "Properties & Positioning": "relation", "Style & Format": "style",
}  # fmt: skip
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class EvalPrompt:
    """One prompt. ``facts`` (group -> value) are what a fact judge looks for; ``complex`` is the same in keywords,
    ``image`` a real picture of it, both None if the file has none. Where it comes from: ``number``, its place in the
    file from 0; ``line``, as it stands in a file of JSON lines; ``name``, of its file in a folder, without suffix."""

    prompt: str
    category: str = OTHER
    facts: dict[str, str] = field(default_factory=dict)
    complex: str | None = None
    image: Path | None = None
    number: int = field(default=0, compare=False)
    line: str | None = field(default=None, compare=False)
    name: str | None = field(default=None, compare=False)


def read_eval_prompts(path: Path) -> list[EvalPrompt]:
    """The prompts of a file, in its order, or of a folder of text files, in the order of their names. SurdError naming
    the line that cannot be read, or if there are none."""
    prompts = _of_folder(path) if path.is_dir() else _of_file(path)
    if not prompts:
        remedy = "put one into each of its .txt files" if path.is_dir() else "write one per line"
        raise SurdError(f"--prompts: {str(path)!r} holds no prompts; {remedy}")
    return [replace(one, number=number) for number, one in enumerate(prompts)]


def _of_folder(folder: Path) -> list[EvalPrompt]:
    files = sorted(folder.glob("*.txt"))
    texts = ((file, _text(file)) for file in files)
    return [_prompt(" ".join(text.split()), name=file.stem) for file, text in texts if text.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SurdError(f"--prompts: {str(path)!r} cannot be read ({error}); give a prompt file") from error


def _of_file(path: Path) -> list[EvalPrompt]:
    text = _text(path)
    if path.suffix == ".jsonl":
        return list(_json_lines(text, path))
    if path.suffix == ".tsv":
        return list(_parti(text, path))
    name = path.stem.removesuffix("_val")
    return [_prompt(line, category=_ours(name)) for line in text.splitlines() if line.strip()]


def by_category(prompts: list[EvalPrompt]) -> dict[str, list[int]]:
    """Category -> indices of its prompts; our six first, then the file's own by name."""
    indices: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        indices.setdefault(prompt.category, []).append(index)
    names = [name for name in CATEGORIES if name in indices]
    return {name: indices[name] for name in names + sorted(set(indices) - set(names))}


def _json_lines(text: str, path: Path) -> Iterator[EvalPrompt]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield replace(_row(row, path), line=line.strip())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SurdError(
                f"--prompts: line {number} of {str(path)!r} is not a valid prompt ({error!r}); "
                'write {"prompt": "...", "category": "...", "facts": {"group": "value"}}'
            ) from error


def _row(row: dict[str, Any], path: Path) -> EvalPrompt:
    for name in ("prompt", "category", "tag", "complex", "image"):
        if not isinstance(row.get(name), (str, type(None))):
            raise TypeError(f"{name} is {row[name]!r}, not text")
    image = row.get("image")
    if image is not None and not (path.parent / image).is_file():
        raise ValueError(f"its image {str(path.parent / image)!r} is missing")
    return _prompt(
        row["prompt"],
        category=_ours(row.get("category") or row.get("tag") or OTHER),
        facts={str(group): str(value) for group, value in row.get("facts", {}).items()},
        complex=row.get("complex"),
        image=None if image is None else path.parent / image,
    )


def _parti(text: str, path: Path) -> Iterator[EvalPrompt]:
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in rows:
        if not row.get("Prompt"):
            raise SurdError(f"--prompts: line {rows.line_num} of {str(path)!r} has no Prompt; give PartiPrompts.tsv")
        yield _prompt(row["Prompt"], category=_ours(row.get("Challenge") or OTHER))


def _prompt(text: str, **fields: Any) -> EvalPrompt:
    return EvalPrompt(prompt=text.strip(), **fields)


def _ours(name: str) -> str:
    return OUR_NAMES.get(name, name)
