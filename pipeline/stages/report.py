"""Turns the rows of a build into one offline HTML page that a person wants to read."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models, demo_only_roles
from surd.pipeline.report.correction import Correction, repaired_entry, scales
from surd.pipeline.report.page import histogram, page
from surd.pipeline.report.records import Record, read_records, read_rows
from surd.pipeline.selection.choose import CALIBRATION
from surd.pipeline.stages import STAGES
from surd.schemas import (
    BuildConfig,
    BuildRecord,
    Calibration,
    ColumnManifest,
    Corrected,
    Reason,
    Selected,
    ShardManifest,
)
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import UNDECODABLE, open_image, upright_rgb

D = TypeVar("D", bound=BaseModel)
LONG, SHORT = 2000, 200  # characters of a prompt and of any other text on the page
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Step:
    """One stage of the funnel: rows that came in, what it rejected and why, rows that went on."""

    stage: str
    came: int
    rejected: list[tuple[Reason, int]]
    went_on: int


@dataclass
class Facts:
    """What is measured over the kept samples."""

    scores: dict[str, list[float]] = field(default_factory=lambda: {"simple": [], "complex": []})
    words: dict[str, list[float]] = field(default_factory=lambda: {"simple": [], "complex": []})
    gains: list[float] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    keywords: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    loras: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one kept sample."""
        prompts, pair = record.corrected, record.pair
        for name, text, score in (
            ("simple", prompts.simple, prompts.clip_simple),
            ("complex", record.cleaned.complex, prompts.clip_complex),
        ):
            self.words[name].append(len((text or "").split()))
            if score is not None:
                self.scores[name].append(score)
        if prompts.clip_simple is not None and prompts.clip_complex is not None:
            self.gains.append(prompts.clip_simple - prompts.clip_complex)
        self.sizes[f"{pair.width} × {pair.height}"] += 1
        self.keywords.update({_cut(word.lower(), 60) for word in record.cleaned.keywords or ()})
        self.methods[prompts.method or "unknown"] += 1
        self.tools[_cut(pair.tool or "not stated", 60)] += 1
        self.loras.update({_cut(name, 60) for name in record.cleaned.loras or ()})


def report(build: Build, config: BuildConfig, models: Models) -> list[list[Selected]]:
    """Write ``report.html``: funnel, calibration, correction, histograms, up to ``report.samples`` records with
    pictures, columns, config.

    The same build gives the same bytes. The page makes no request of any kind. Returns no rows.
    """
    settings, parts = config.report, range(build.part_count())
    verdicts = [row for part in parts for row in read_rows(build, "select", part, Selected)]
    chosen = choose(verdicts, settings.samples)
    facts, entries, repaired = Facts(), [], []
    correction = Correction()
    true: dict[str, list[float]] = {"simple": [], "complex": []}
    for part in parts:
        records = list(read_records(build, part))
        for record in records:
            correction.add(record.corrected)
            if record.corrected.kept:
                _add_scores(true, record.corrected)
            if record.verdict.kept:
                facts.add(record)
        shown = [record for record in records if record.source.key in chosen]
        changed = [record for record in records if record.verdict.kept and record.corrected.repairs]
        changed = sorted(changed, key=lambda record: record.source.key)[: settings.repairs]
        both = {record.source.key: record for record in (*shown, *changed)}
        thumbnails = _thumbnails(build, part, list(both.values()), settings.thumbnail)
        entries += [_entry(record, thumbnails.get(record.source.key)) for record in shown]
        repaired += [_repaired(record, thumbnails.get(record.source.key)) for record in changed]
    calibration = _document(build, CALIBRATION, Calibration)
    made_by = _document(build, "build.json", BuildRecord)
    columns = [_document(build, f"columns/{name}/manifest.json", ColumnManifest) for name in build.listdir("columns")]
    html = page(
        name=build.name,
        steps=funnel(verdicts),
        facts=facts,
        scales=scales(calibration, true),
        calibration_notes=calibration.notes if calibration else [],
        correction=correction,
        repaired=sorted(repaired, key=lambda entry: str(entry["key"]))[: settings.repairs],
        score_bins=histogram(facts.scores, 0.005),
        gain_bins=histogram({"gain": facts.gains}, 0.005),
        word_bins=histogram(facts.words, 1, cap=True),
        entries=entries,
        details=[
            {name: value for name, value in entry.items() if value not in (None, "", []) and name != "thumbnail"}
            for entry in entries
        ],
        shards=_document(build, "shards/manifest.json", ShardManifest),
        columns=[column for column in columns if column],
        made_by=made_by,
        demo_only_roles=demo_only_roles(made_by.models, made_by.config.get("source", "")) if made_by else [],
        config=yaml.safe_dump(made_by.config, sort_keys=False, allow_unicode=True) if made_by else "",
    )
    build.write_bytes("report.html", html.encode())
    return []


def funnel(verdicts: Iterable[Selected]) -> list[Step]:
    """Every row-writing stage in order. What is rejected and what is left adds up to what was collected."""
    rows = list(verdicts)
    lost = Counter((row.rejected_by, row.reason) for row in rows if row.reason is not None)
    steps, left = [], len(rows)
    for stage in (stage.name for stage in STAGES if stage.row):
        rejected = [(reason, lost[stage, reason]) for reason in Reason if lost[stage, reason]]
        came, left = left, left - sum(count for _, count in rejected)
        steps.append(Step(stage, came, rejected, left))
    return steps


def choose(verdicts: Iterable[Selected], limit: int) -> set[str]:
    """Keys of at most ``limit`` rows: all if they fit, else every reason of rejection in turn for a third of the room
    (more where the kept ones leave some), then kept ones. Keys are hashes, so the least of them are a fair draw."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in sorted(verdicts, key=lambda row: row.key):
        groups[row.reason or ""].append(row.key)
    kept = groups.pop("", [])
    in_turn = [key for turn in zip_longest(*(groups[name] for name in sorted(groups))) for key in turn if key]
    rejects = in_turn[: min(limit, max(limit // 3, len(groups), limit - len(kept)))]
    return {*rejects, *kept[: limit - len(rejects)]}


def _thumbnails(build: Build, part: int, records: list[Record], pixels: int) -> dict[str, str]:
    """Key -> WebP data URI for every record whose image decodes."""
    pairs = [record.pair for record in records if record.pair.offset is not None and record.decoded.kept]
    if not pairs:
        return {}
    images = zip(pairs, build.images(part, pairs), strict=True)
    return {pair.key: uri for pair, data in images if (uri := _thumbnail(data, pixels))}


def _thumbnail(data: bytes, pixels: int) -> str | None:
    try:
        with open_image(data) as image:
            image.draft(None, (2 * pixels, 2 * pixels))  # of a JPEG, no more pixels than the thumbnail needs
            small = upright_rgb(image, orientation(data))
    except UNDECODABLE:
        return None
    small.thumbnail((pixels, pixels))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _add_scores(true: dict[str, list[float]], row: Corrected) -> None:
    for name, score in (("simple", row.clip_simple), ("complex", row.clip_complex)):
        if score is not None:
            true[name].append(score)


def _repaired(record: Record, thumbnail: str | None) -> dict[str, object]:
    return repaired_entry(record.corrected, record.source.key, _cut(record.cleaned.complex, LONG), thumbnail, LONG)


def _entry(record: Record, thumbnail: str | None) -> dict[str, object]:
    """What the grid and the detail dialog show of one record; every text is cut, every link is http(s)."""
    source, pair, cleaned, prompts, verdict = (
        record.source, record.pair, record.cleaned, record.corrected, record.verdict
    )  # fmt: skip
    raw, fit, complex_fit = pair.prompt or source.prompt, prompts.clip_simple, prompts.clip_complex
    texts = {"rewrite": record.rewritten.rewrites or [], "caption": record.captioned.captions or []}
    origins = {_bare(text): name for name, sentences in texts.items() for text in sentences}
    repairs, worded_from = prompts.repairs or [], prompts.worded_from
    if repairs:
        origins[_bare(worded_from or prompts.simple or "")] = "repair"
    if worded_from:
        origins[_bare(prompts.simple or "")] = "other words"
    scores = prompts.candidate_scores or []
    short = {
        "detail": verdict.detail, "source": source.source, "source_id": source.source_id, "url": source.url,
        "author": source.author, "licence": source.licence, "terms": source.terms, "created_at": source.created_at,
        "tool": pair.tool,
    }  # fmt: skip
    entry: dict[str, object] = {
        "key": source.key,
        "reason": verdict.reason,
        "meaning": verdict.reason.meaning if verdict.reason else None,
        "stage": verdict.rejected_by,
        "thumbnail": thumbnail,
        "simple": _cut(prompts.simple, LONG),
        "complex": _cut(cleaned.complex or raw, LONG),
        "prompt": _cut(raw, LONG) if cleaned.complex and raw != cleaned.complex else None,
        "negative": _cut(pair.negative_prompt or source.negative_prompt, LONG),
        "loras": [_cut(name, 60) for name in cleaned.loras or ()][:20],
        "method": prompts.method,
        "clip_simple": fit,
        "clip_complex": complex_fit,
        "gain": fit - complex_fit if fit is not None and complex_fit is not None else None,
        "candidates": [
            {
                "text": _cut(text, SHORT),
                "score": score,
                "origin": origins.get(_bare(text)),
                "won": text == prompts.simple,
            }
            for text, score in zip_longest(prompts.candidates or [], scores)
        ],
        "before": _cut(prompts.before, LONG),
        "repairs": [_cut(repair, SHORT) for repair in repairs],
        "twin": next((key for key in (record.deduped.cluster, verdict.cluster) if key and key != source.key), None),
        "distance": record.deduped.distance,
        "page": _link(source.page_url),
        "image": _link(source.url),
        "width": pair.width,
        "height": pair.height,
        "ext": pair.ext,
        "size": pair.size,
        "sha256": pair.sha256,
    }
    return entry | {name: _cut(text, LONG if name == "detail" else SHORT) for name, text in short.items()}


def _bare(text: str) -> str:
    """A sentence as it compares: correct gives each a capital and a full stop."""
    return text.casefold().rstrip(".!?")


def _link(url: str | None) -> str | None:
    """The address, if it is a web page's and not something a browser would run or read from disk."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc and len(url or "") <= LONG else None


def _cut(text: str | None, limit: int) -> str:
    """At most ``limit`` characters, the rest counted; control characters made visible."""
    text = text or ""
    more = f" … [{len(text) - limit:,} more characters]" if len(text) > limit else ""
    return _CONTROL.sub("\ufffd", text[:limit]) + more


def _document(build: Build, relative: str, model: type[D]) -> D | None:
    return model.model_validate_json(build.read_bytes(relative)) if build.exists(relative) else None
