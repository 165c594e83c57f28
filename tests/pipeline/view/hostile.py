"""A build with hostile text in every field of every stage, each record another text."""

from __future__ import annotations

from pathlib import Path

from surd.pipeline.build.folder import Build
from surd.schemas import Captioned, Cleaned, Corrected, Decoded, Deduped, Pair, Rewritten, Selected, SourceRecord
from tests.pipeline.report.report_builds import STAGES, write_build
from tests.pipeline.report.test_hostile_text import PAYLOADS, filled

_MODELS = (SourceRecord, Pair, Decoded, Cleaned, Deduped, Captioned, Rewritten, Corrected, Selected)
_AROUND = (
    "{}",
    "a {}",
    "{}{}",
    "\"'>{}",
    "</span>{}",
    "</li></ul>{}",
    "{}\u202e",
    "x" * 3000 + "{}",
    "\u0000{}",
    "%3C{}",
    "&#60;{}",
    "{}\n{}",
)


def hostile_texts(count: int) -> list[str]:
    """So many different texts, of every kind in turn."""
    count_of, around = len(PAYLOADS), len(_AROUND)
    return [_AROUND[(at // count_of + at) % around].replace("{}", PAYLOADS[at % count_of]) for at in range(count)]


def write_hostile_build(folder: Path, count: int) -> Build:
    """A finished build of so many records."""
    texts = hostile_texts(count)
    build = write_build(folder, count, count)
    for stage, model in zip(STAGES, _MODELS, strict=True):
        rows = [filled(row, texts[at]) for at, row in enumerate(build.read_rows(stage, 0, model))]
        build.write_rows(stage, 0, model, rows)
    return build
