"""Stage dedup: clusters of the same picture or prompt over all partitions, of which the best row stays.

Bytes that come under five unlike prompts are a placeholder, of which none stays. Of other clusters the best row is the
one with most pixels, then most bytes, then the smallest key. Clusters are made in
three steps, each among the rows that the one before left: same bytes, same picture (resized, recompressed, lightly
cropped, on request mirrored), almost the same prompt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from surd.pipeline import untrusted_json
from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build, part_file, part_miniatures
from surd.pipeline.deduplication.minhash import PromptDuplicate, find_prompt_duplicates, prompt_set
from surd.pipeline.deduplication.near_duplicates import Likeness, find_near_duplicates
from surd.pipeline.deduplication.placeholders import ENOUGH, REPEATS, unlike_prompts
from surd.pipeline.deduplication.registration import Pixels
from surd.pipeline.models import Models
from surd.schemas import BuildConfig, Deduped, Reason, Row, Status
from surd.schemas.config import DedupConfig
from surd.schemas.shard_format.npy import read_npy

_RULE = "the one with most pixels stays, then most bytes, then the smallest key"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row that is still kept: what identifies its picture, and its rank."""

    key: str
    sha256: str
    rank: tuple[int, int, str]
    location: tuple[int, int]  # partition, and row in it


@dataclass(frozen=True, kw_only=True)
class ImageDuplicate:
    """The row that stays, and how alike the two pictures are; None if their bytes are the same."""

    key: str
    likeness: Likeness | None


def dedup(build: Build, config: BuildConfig, models: Models) -> list[list[Deduped]]:
    """Rows per partition; of every cluster all rows but the best (of prompts: the best few) are rejected.

    Miniatures, prompts and rows are read one after the other, never held together.
    """
    settings, parts = config.dedup, range(build.part_count())
    candidates = sorted((one for part in parts for one in _read_candidates(build, part)), key=lambda c: c.rank)
    placeholders = _placeholders(build, candidates)
    candidates = [candidate for candidate in candidates if candidate.sha256 not in placeholders]
    images = _image_duplicates(build, candidates, settings)
    left = [candidate for candidate in candidates if candidate.key not in images]
    prompts = _prompt_duplicates(build, left, settings)
    rejected = _over_limit(left, prompts, settings.max_per_prompt)
    return [
        [
            _decide(row, images.get(row.key), prompts.get(row.key), row.key in rejected, settings)
            if sha256 not in placeholders
            else _not_placeholder(row, placeholders[sha256])
            for row, sha256 in zip(_verdicts(build, part), _hashes(build, part), strict=True)
        ]
        for part in parts
    ]


def _verdicts(build: Build, part: int) -> list[Row]:
    table = build.read_table(part_file("clean", part), columns=list(Row.model_fields))
    return [Row.model_validate(row) for row in table.to_pylist()]


def _read_candidates(build: Build, part: int) -> list[Candidate]:
    pairs = build.read_table(part_file("fetch", part), columns=["sha256", "width", "height", "size"]).to_pylist()
    verdicts = build.read_table(part_file("clean", part), columns=["key", "status"]).to_pylist()
    return [
        Candidate(
            key=row["key"],
            sha256=pair["sha256"],
            rank=(-pair["width"] * pair["height"], -pair["size"], row["key"]),
            location=(part, at),
        )
        for at, (row, pair) in enumerate(zip(verdicts, pairs, strict=True))
        if row["status"] == Status.KEPT
    ]


def _placeholders(build: Build, candidates: list[Candidate]) -> dict[str, list[str]]:
    """sha256 -> five unlike prompts, of bytes that come under so many: of several records, or of one listed often."""
    repeats: dict[str, list[str]] = untrusted_json.parse(build.read_bytes(REPEATS)) if build.exists(REPEATS) else {}
    count = Counter(candidate.sha256 for candidate in candidates)
    suspects = [one for one in candidates if count[one.sha256] >= ENOUGH or one.key in repeats]
    prompts: dict[str, list[str]] = {}
    for part, locations in _by_part(suspects).items():
        texts = build.read_table(part_file("clean", part), columns=["complex"])["complex"].to_pylist()
        for number, row in locations:
            of_bytes = prompts.setdefault(suspects[number].sha256, [])
            of_bytes += [texts[row] or "", *repeats.get(suspects[number].key, ())]
    unlike = {sha256: unlike_prompts(texts) for sha256, texts in prompts.items()}
    return {sha256: texts for sha256, texts in unlike.items() if len(texts) >= ENOUGH}


def _hashes(build: Build, part: int) -> list[str | None]:
    hashes: list[str | None] = build.read_table(part_file("fetch", part), columns=["sha256"])["sha256"].to_pylist()
    return hashes


def _not_placeholder(row: Row, prompts: list[str]) -> Deduped:
    deduped = Deduped(**row.verdict())
    if not row.kept:
        return deduped
    examples = ", ".join(f"{prompt[:80]!r}" for prompt in prompts[:3])
    return deduped.reject("dedup", Reason.PLACEHOLDER, f"the same bytes come under unlike prompts, e.g. {examples}")


def _image_duplicates(build: Build, candidates: list[Candidate], settings: DedupConfig) -> dict[str, ImageDuplicate]:
    """Key -> the row that stays, for every row whose picture is that of a better row."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.sha256, candidate)
    distinct = list(first.values())
    duplicates: dict[str, ImageDuplicate] = {}
    if settings.radius >= 0:
        for row, (best, likeness) in find_near_duplicates(_miniatures(build, distinct), settings).items():
            duplicates[distinct[row].key] = ImageDuplicate(key=distinct[best].key, likeness=likeness)
    for candidate in candidates:
        same = first[candidate.sha256]
        if same is not candidate:
            stays = duplicates[same.key].key if same.key in duplicates else same.key
            duplicates[candidate.key] = ImageDuplicate(key=stays, likeness=None)
    return duplicates


def _miniatures(build: Build, candidates: list[Candidate]) -> Pixels:
    """The candidates' miniatures, in their order: 3 KB each, all that is held of a picture."""
    minis = np.zeros((len(candidates), 32, 32, 3), np.uint8)
    for part, locations in _by_part(candidates).items():
        data = build.read_bytes(file := part_miniatures(part))
        with reading(build, file):
            array = read_npy(data)
            minis[[number for number, _ in locations]] = array[[row for _, row in locations]]
    return minis


def _prompt_duplicates(
    build: Build, candidates: list[Candidate], settings: DedupConfig
) -> dict[str, tuple[str, PromptDuplicate]]:  # fmt: skip
    """Key -> (key of its cluster's representative, how alike); empty if prompts are not compared."""
    if not settings.max_per_prompt:
        return {}
    prompt_sets: list[frozenset[str]] = [frozenset()] * len(candidates)
    for part, locations in _by_part(candidates).items():
        keywords = build.read_table(part_file("clean", part), columns=["keywords"])["keywords"].to_pylist()
        for number, row in locations:
            prompt_sets[number] = prompt_set(keywords[row] or ())
    clustered = zip(candidates, find_prompt_duplicates(prompt_sets, settings.prompt_similarity), strict=True)
    return {candidate.key: (candidates[duplicate.row].key, duplicate) for candidate, duplicate in clustered}


def _by_part(candidates: list[Candidate]) -> dict[int, list[tuple[int, int]]]:
    """Partition -> (number of the candidate, its row there)."""
    locations: dict[int, list[tuple[int, int]]] = {}
    for number, candidate in enumerate(candidates):
        locations.setdefault(candidate.location[0], []).append((number, candidate.location[1]))
    return locations


def _over_limit(candidates: list[Candidate], prompts: dict[str, tuple[str, PromptDuplicate]], most: int) -> set[str]:
    """Keys beyond the best ``most`` of each prompt cluster."""
    count: Counter[str] = Counter()
    over_limit: set[str] = set()
    for candidate in candidates:
        if candidate.key in prompts:
            cluster = prompts[candidate.key][0]
            count[cluster] += 1
            if count[cluster] > most:
                over_limit.add(candidate.key)
    return over_limit


def _decide(
    row: Row,
    image: ImageDuplicate | None,
    prompt: tuple[str, PromptDuplicate] | None,
    over_limit: bool,
    settings: DedupConfig,
) -> Deduped:
    deduped = Deduped(**row.verdict())
    if not row.kept:
        return deduped
    if image:
        columns: dict[str, Any] = {"cluster": image.key}
        if image.likeness is None:
            return deduped.model_copy(update=columns).reject(
                "dedup", Reason.DUPLICATE_BYTES, f"same bytes as a copy of {image.key}; {_RULE}"
            )
        likeness = image.likeness
        columns |= {"distance": likeness.distance, "difference": likeness.difference}
        return deduped.model_copy(update=columns).reject(
            "dedup",
            Reason.DUPLICATE_IMAGE,
            f"{'mirrored ' if likeness.flipped else ''}copy of {image.key}: {likeness.distance} bits of the hash and "
            f"{likeness.difference:g} levels of colour apart; {_RULE}",
        )
    columns = {"cluster": row.key}
    if prompt:
        representative, duplicate = prompt
        columns |= {"prompt_cluster": representative, "prompt_similarity": round(duplicate.similarity, 4)}
        if over_limit:
            return deduped.model_copy(update=columns).reject(
                "dedup",
                Reason.DUPLICATE_PROMPT,
                f"prompt {duplicate.similarity:.2f} alike that of {representative}, of which the best "
                f"{settings.max_per_prompt} stay: most pixels, then most bytes, then the smallest key",
            )
    return deduped.model_copy(update=columns)
