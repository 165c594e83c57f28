"""A random sample of a build's samples, judged by a person: of photographs the only honest measure of precision.

``reviews/SIZE-SEED.jsonl`` beside the build starts with a line that holds the draw; then comes an answer a line. It is
drawn once, so a session may be continued; an answer about a sample that has changed since is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions.lines import Lines
from surd.schemas import SurdError

REVIEWS = "reviews"
_INDEX = "shards/index.parquet"
_KEY = Field(pattern=r"^[0-9a-f]{16}$")
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
CONFIDENCE = 0.95


class Draw(BaseModel):
    """What was drawn. ``population``: how many samples the build had then."""

    model_config = ConfigDict(extra="forbid")
    sample: int
    seed: int
    population: int
    keys: list[str]
    at: datetime


class Answer(BaseModel):
    """What a person said of one sample. ``content``: a hash of its picture and sentence, as they were shown."""

    model_config = ConfigDict(extra="forbid")
    key: str = _KEY
    good: bool
    content: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Shown:
    """A sample to be judged, and where its picture lies in a shard."""

    key: str
    simple: str
    complex: str
    content: str
    shard: str
    offset: int
    size: int

    def picture(self, build: Build, folder: Path) -> Path:
        """Its picture as a file in ``folder``: a terminal cannot show it."""
        with build.open(f"shards/{self.shard}") as shard:
            shard.seek(self.offset)
            data = shard.read(self.size)
        suffix = next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), "")
        path = folder / f"{self.key}{suffix}"
        path.write_bytes(data)
        return path


@dataclass(frozen=True)
class Precision:
    """The share of good samples among ``answered``, with its Wilson score interval; of the sample as drawn.

    Wilson, Journal of the American Statistical Association 22 (1927): it holds its level also near 0 and 1.
    """

    yes: int
    answered: int
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, yes: int, answered: int) -> Precision:
        if not answered:
            return cls(0, 0, None)
        from scipy.stats import binomtest  # only here: it takes a second to load

        found = binomtest(yes, answered).proportion_ci(CONFIDENCE, "wilson")
        return cls(yes, answered, (float(found.low), float(found.high)))

    @property
    def share(self) -> float | None:
        return self.yes / self.answered if self.answered else None


@dataclass
class Review:
    """A draw with what is known of it. ``gone``: drawn samples that the build does not have any more."""

    build: Build
    draw: Draw
    samples: dict[str, Shown]
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return _file(self.draw.sample, self.draw.seed)

    @property
    def gone(self) -> list[str]:
        return [key for key in self.draw.keys if key not in self.samples]

    def left(self) -> Iterator[Shown]:
        """Samples that nobody has judged yet as they are, in the order of the draw."""
        valid = self._valid()
        yield from (self.samples[key] for key in self.draw.keys if key in self.samples and key not in valid)

    def answer(self, shown: Shown, *, good: bool) -> None:
        """Note a judgement; it is on the disk when this returns."""
        answer = Answer(key=shown.key, good=good, content=shown.content)
        Lines(self.build, self.file).append(answer.model_dump_json().encode() + b"\n")
        self.answers[shown.key] = answer

    def bad(self) -> list[str]:
        """Keys of the samples that are not good."""
        return [key for key, answer in self._valid().items() if not answer.good]

    def precision(self) -> Precision:
        valid = self._valid()
        return Precision.of(sum(answer.good for answer in valid.values()), len(valid))

    def _valid(self) -> dict[str, Answer]:
        of_draw = {key: self.answers[key] for key in self.draw.keys if key in self.answers and key in self.samples}
        return {key: answer for key, answer in of_draw.items() if answer.content == self.samples[key].content}


def open_review(build: Build, sample: int, seed: int) -> Review:
    """A review of so many samples, drawn now or continued. Raises SurdError where the build has none."""
    if not build.exists(_INDEX):
        raise SurdError(
            f"build is {build.root!r} and has no {_INDEX}: nothing is there to review; run surd build first"
        )
    samples = {row.key: row for row in _samples(build)}
    file = _file(sample, seed)
    first, *rest = Lines(build, file).read() or [b""]
    if not first:
        if not samples:
            raise SurdError(f"build is {build.root!r} and no sample of it was kept: nothing is there to review")
        keys = random.Random(seed).sample(sorted(samples), min(sample, len(samples)))
        draw = Draw(sample=sample, seed=seed, population=len(samples), keys=keys, at=datetime.now(UTC))
        Lines(build, file).append(draw.model_dump_json().encode() + b"\n")
        return Review(build, draw, samples)
    try:
        draw = Draw.model_validate_json(first)
    except ValidationError:
        raise SurdError(
            f"{build.path(file)} is not a valid review in line 1; remove it, or give another --seed"
        ) from None
    return Review(build, draw, samples, dict(_answers(rest)))


def forget_reviews(build: Build, keys: Set[str]) -> int:
    """Take records out of all draws and answers; how many lines changed. Only while the build is held."""
    changed = 0

    def without(line: bytes) -> bytes | None:
        nonlocal changed
        if not any(key.encode() in line for key in keys):
            return line
        changed += 1
        try:
            draw = Draw.model_validate_json(line)
        except ValidationError:
            return None
        return (
            draw.model_copy(update={"keys": [key for key in draw.keys if key not in keys]}).model_dump_json().encode()
        )

    names = {name.removesuffix(".jsonl") for name in build.listdir(REVIEWS)}
    for name in sorted(names):
        Lines(build, f"{REVIEWS}/{name}.jsonl").change(without)
    return changed


def _file(sample: int, seed: int) -> str:
    return f"{REVIEWS}/{sample}-{seed}.jsonl"


def _answers(lines: list[bytes]) -> Iterator[tuple[str, Answer]]:
    """The last of each sample wins; a half-written line is asked again."""
    for line in lines:
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError:
            continue
        yield answer.key, answer


def _samples(build: Build) -> Iterator[Shown]:
    columns = ["key", "simple", "complex", "sha256", "shard", "offset", "size"]
    for row in build.read_table(_INDEX, columns=columns).to_pylist():
        content = hashlib.sha256(json.dumps([row.pop("sha256"), row["simple"]]).encode()).hexdigest()[:16]
        yield Shown(**row, content=content)
