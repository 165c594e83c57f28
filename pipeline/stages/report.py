"""Stage report: one offline HTML page about a build that a person wants to read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import yaml
from pydantic import BaseModel

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import scratch
from surd.pipeline.models import Models
from surd.pipeline.report.correction import Correction, scales
from surd.pipeline.report.entries import Entry, Least, choose, entry_of, repaired, thumbnails
from surd.pipeline.report.funnel import FactTally, funnel
from surd.pipeline.report.page import Histogram, histogram, page
from surd.pipeline.report.records import Record, read_qualities, read_records, read_rows
from surd.pipeline.report.tallies import Tallies, tallying
from surd.pipeline.selection.choose import CALIBRATION
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, BuildRecord, Calibration, ColumnManifest, Corrected, Selected, ShardManifest
from surd.schemas.config import ReportConfig

D = TypeVar("D", bound=BaseModel)
QUALITY_NAMES = {
    "brisque": "BRISQUE", "clip_iqa": "CLIP-IQA", "colourfulness": "colourfulness", "entropy": "entropy",
    "text_area": "text area", "watermark": "watermark", "aesthetic": "aesthetic score",
}  # fmt: skip
QUALITY_UNITS = {
    "brisque": "0 good, 100 bad", "clip_iqa": "probability of a good photo against a bad one",
    "colourfulness": "0 grey, 109 extreme", "entropy": "bits of the luminance", "text_area": "share of the picture",
    "watermark": "probability", "aesthetic": "1 to 10",
}  # fmt: skip
_COARSE = ("brisque", "colourfulness")  # counted by whole numbers


def report(build: Build, config: BuildConfig, models: Models) -> list[list[Selected]]:
    """Write ``report.html``: funnel, calibration, correction, histograms, up to ``report.samples`` records with
    pictures, columns, config.

    The same build gives the same bytes. The page makes no request of any kind. Returns no rows. Memory is that of one
    partition and of the records that are shown.
    """
    settings = config.report
    chosen = choose(_verdicts(build), settings.samples)
    calibration = _document(build, CALIBRATION, Calibration)
    made_by = _document(build, "build.json", BuildRecord)
    columns = [_document(build, f"columns/{name}/manifest.json", ColumnManifest) for name in build.listdir("columns")]
    with scratch(build, "report") as tables:
        with tallying(tables) as tallies:
            read = _read(build, tallies, chosen, settings)
        true = {kind: tallies.series(f"true_{kind}") for kind in ("simple", "complex")}
        html = page(
            name=build.name,
            steps=funnel((stage.name for stage in STAGES if stage.row), _verdicts(build)),
            facts=read.facts.facts(),
            scales=scales(calibration, true),
            calibration_notes=calibration.notes if calibration else [],
            correction=read.correction,
            repaired=read.repaired,
            score_bins=_bins(tallies, {"simple": "score_simple", "complex": "score_complex"}, 0.005),
            gain_bins=_bins(tallies, {"gain": "gain"}, 0.005),
            word_bins=_bins(tallies, {"simple": "words_simple", "complex": "words_complex"}, 1, cap=True),
            quality_bins={name: bins for name in read.qualities if (bins := _quality_bins(tallies, name))},
            quality_names=QUALITY_NAMES,
            coarse=_COARSE,
            quality_units=QUALITY_UNITS,
            entries=read.entries,
            details=[
                {name: value for name, value in entry.items() if value not in (None, "", []) and name != "thumbnail"}
                for entry in read.entries
            ],
            shards=_document(build, "shards/manifest.json", ShardManifest),
            columns=[column for column in columns if column],
            made_by=made_by,
            demo_only_roles=_demo_only_roles(made_by) if made_by else [],
            config=yaml.safe_dump(made_by.config, sort_keys=False, allow_unicode=True) if made_by else "",
        )
    build.write_bytes("report.html", html.encode())
    return []


@dataclass
class _Read:
    """What the page shows of a build's records, beside the tallies."""

    facts: FactTally
    correction: Correction = field(default_factory=Correction)
    qualities: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    repaired: list[Entry] = field(default_factory=list)


def _read(build: Build, tallies: Tallies, chosen: set[str], settings: ReportConfig) -> _Read:
    """Read every record once, a partition at a time."""
    read = _Read(FactTally(tallies))
    changed = Least[tuple[int, Record]](settings.repairs)
    for part in range(build.part_count()):
        records = list(read_records(build, part))
        for record in records:
            read.correction.add(record.corrected)
            if record.corrected.kept:
                _add_scores(tallies, record.corrected)
        of_kept = {record.source.key: record for record in records if record.verdict.kept}
        read.facts.add(of_kept.values())
        for name, values in read_qualities(build, part, of_kept.keys()).items():
            tallies.add(name, values)
            read.qualities += [name] if name not in read.qualities else []
        shown = [record for record in records if record.source.key in chosen]
        pictures = thumbnails(build, part, shown, settings.thumbnail)
        read.entries += [entry_of(record, pictures.get(record.source.key)) for record in shown]
        for record in of_kept.values():
            if record.corrected.repairs:
                changed.add(record.source.key, (part, record))
    for part, record in changed.values():
        pictures = thumbnails(build, part, [record], settings.thumbnail)
        read.repaired.append(repaired(record, pictures.get(record.source.key)))
    return read


def _verdicts(build: Build) -> Iterator[Selected]:
    for part in range(build.part_count()):
        yield from read_rows(build, "select", part, Selected)


def _bins(tallies: Tallies, series: dict[str, str], least: float, cap: bool = False) -> Histogram | None:
    """A histogram; ``series``: name in it -> name in the tallies."""
    numbers = {name: tallies.series(tallied) for name, tallied in series.items()}
    every = tallies.series(*series.values()) if len(series) > 1 else next(iter(numbers.values()))
    return histogram(numbers, every, least, cap)


def _quality_bins(tallies: Tallies, name: str) -> Histogram | None:
    return _bins(tallies, {"simple": name}, 1 if name in _COARSE else 0.005)  # the series' name is its colour


def _add_scores(tallies: Tallies, row: Corrected) -> None:
    for name, score in (("simple", row.clip_simple), ("complex", row.clip_complex)):
        if score is not None and math.isfinite(score):
            tallies.add(f"true_{name}", [score])


def _document(build: Build, relative: str, model: type[D]) -> D | None:
    if not build.exists(relative):
        return None
    with reading(build, relative):
        return model.model_validate_json(build.read_bytes(relative))


def _demo_only_roles(record: BuildRecord) -> list[str]:
    """The roles in use whose models know the demo world alone, where the pictures are others; by the build's record."""
    if record.config.get("source") == "demo":
        return []
    asked = record.config.get("correct", {}).get("witnesses", [])
    used = ("clip", "captioner", *(["vqa"] if "vqa" in asked else []))
    return [role for role in used if record.models.get(role, "").startswith("package:pipeline/demo/")]
