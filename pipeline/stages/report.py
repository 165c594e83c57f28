"""Stage report: one offline HTML page about a build that a person wants to read."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import BaseModel

from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.report.correction import Correction, scales
from surd.pipeline.report.entries import choose, entry_of, repaired, thumbnails
from surd.pipeline.report.funnel import Facts, funnel
from surd.pipeline.report.page import Histogram, histogram, page
from surd.pipeline.report.records import read_qualities, read_records, read_rows
from surd.pipeline.selection.choose import CALIBRATION
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, BuildRecord, Calibration, ColumnManifest, Corrected, Selected, ShardManifest

D = TypeVar("D", bound=BaseModel)
QUALITY_NAMES = {"brisque": "BRISQUE", "clip_iqa": "CLIP-IQA"}
QUALITY_UNITS = {"brisque": "0 good, 100 bad", "clip_iqa": "probability of a good photo against a bad one"}


def report(build: Build, config: BuildConfig, models: Models) -> list[list[Selected]]:
    """Write ``report.html``: funnel, calibration, correction, histograms, up to ``report.samples`` records with
    pictures, columns, config.

    The same build gives the same bytes. The page makes no request of any kind. Returns no rows.
    """
    settings, parts = config.report, range(build.part_count())
    verdicts = [row for part in parts for row in read_rows(build, "select", part, Selected)]
    chosen = choose(verdicts, settings.samples)
    facts, entries, repairs = Facts(), [], []
    correction = Correction()
    true: dict[str, list[float]] = {"simple": [], "complex": []}
    qualities: dict[str, list[float]] = {}
    for part in parts:
        records = list(read_records(build, part))
        for record in records:
            correction.add(record.corrected)
            if record.corrected.kept:
                _add_scores(true, record.corrected)
            if record.verdict.kept:
                facts.add(record)
        kept = {record.source.key for record in records if record.verdict.kept}
        for name, values in read_qualities(build, part, kept).items():
            qualities.setdefault(name, []).extend(values)
        shown = [record for record in records if record.source.key in chosen]
        changed = [record for record in records if record.verdict.kept and record.corrected.repairs]
        changed = sorted(changed, key=lambda record: record.source.key)[: settings.repairs]
        both = {record.source.key: record for record in (*shown, *changed)}
        pictures = thumbnails(build, part, list(both.values()), settings.thumbnail)
        entries += [entry_of(record, pictures.get(record.source.key)) for record in shown]
        repairs += [repaired(record, pictures.get(record.source.key)) for record in changed]
    calibration = _document(build, CALIBRATION, Calibration)
    made_by = _document(build, "build.json", BuildRecord)
    columns = [_document(build, f"columns/{name}/manifest.json", ColumnManifest) for name in build.listdir("columns")]
    html = page(
        name=build.name,
        steps=funnel((stage.name for stage in STAGES if stage.row), verdicts),
        facts=facts,
        scales=scales(calibration, true),
        calibration_notes=calibration.notes if calibration else [],
        correction=correction,
        repaired=sorted(repairs, key=lambda entry: str(entry["key"]))[: settings.repairs],
        score_bins=histogram(facts.scores, 0.005),
        gain_bins=histogram({"gain": facts.gains}, 0.005),
        word_bins=histogram(facts.words, 1, cap=True),
        quality_bins={name: bins for name in qualities if (bins := _quality_bins(name, qualities[name]))},
        quality_names=QUALITY_NAMES,
        quality_units=QUALITY_UNITS,
        entries=entries,
        details=[
            {name: value for name, value in entry.items() if value not in (None, "", []) and name != "thumbnail"}
            for entry in entries
        ],
        shards=_document(build, "shards/manifest.json", ShardManifest),
        columns=[column for column in columns if column],
        made_by=made_by,
        demo_only_roles=_demo_only_roles(made_by) if made_by else [],
        config=yaml.safe_dump(made_by.config, sort_keys=False, allow_unicode=True) if made_by else "",
    )
    build.write_bytes("report.html", html.encode())
    return []


def _quality_bins(name: str, values: list[float]) -> Histogram | None:
    return histogram({"simple": values}, 1 if name == "brisque" else 0.005)  # the series' name is its colour


def _add_scores(true: dict[str, list[float]], row: Corrected) -> None:
    for name, score in (("simple", row.clip_simple), ("complex", row.clip_complex)):
        if score is not None:
            true[name].append(score)


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
