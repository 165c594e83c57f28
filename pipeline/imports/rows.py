"""Writes the curation rows and markers of an imported dataset.

Nothing is judged or computed: every record whose image decodes is kept with the prompts and scores it came with, unless
a person decided otherwise. So an
imported dataset is a build like any other: pack makes its shards, ``surd inspect`` shows a record, ``surd report``
makes its page, ``surd verify --repair`` rebuilds a shard from the fetched bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import scratch
from surd.pipeline.dataset.reader import CAPTIONS_FIELD
from surd.pipeline.selection.choose import SELECTION, selection_file, write_kept
from surd.pipeline.selection.verdicts import obeying
from surd.pipeline.sources.curated import exported_sample
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import Calibration, Corrected, Decoded, Marker, Pair, Row, Selected, SelectionRule, SourceRecord
from surd.schemas.shard_format.captions import dump_captions, parse_captions

IMPORTED = "imported"
_NAMES = [stage.name for stage in STAGES]
CURATION: tuple[Stage, ...] = STAGES[_NAMES.index("clean") : _NAMES.index("pack")]


def write_imported_rows(build: Build) -> None:
    """Write the rows and markers of clean to select, and ``selection.parquet``; the same input gives the same bytes."""
    parts = build.part_count()
    outputs: dict[str, list[dict[str, str]]] = {stage.name: [] for stage in CURATION}
    for part in range(parts):
        records = build.read_rows("collect", part, SourceRecord)
        pairs = build.read_rows("fetch", part, Pair)
        decodings = build.read_rows("decode", part, Decoded)
        imported = [_imported_fields(record, pair) for record, pair in zip(records, pairs, strict=True)]
        for stage in CURATION:
            assert stage.row is not None, "a stage between decode and pack has rows"
            rows = [_row(stage.row, decoded, fields) for decoded, fields in zip(decodings, imported, strict=True)]
            if stage.row is Selected:
                rows = obeying(build, rows)  # type: ignore[assignment, arg-type]
            with build.recording() as written:
                build.write_rows(stage.name, part, stage.row, rows)
            outputs[stage.name].append(written)
    for stage in CURATION:
        of_stage = outputs[stage.name]
        if stage.scope == "build":
            of_stage = [{file: sha256 for files in of_stage for file, sha256 in files.items()}]
        for number, files in enumerate(of_stage):
            _mark(build, stage, number, parts, files)
    rule = SelectionRule(settings={}, thresholds=[], notes=["imported as it was: nothing was selected here"])
    nothing = Calibration(clip="none: imported", images=0, prompts=0)
    with scratch(build, "select") as tables:
        write_kept(tables, "kept", (build.read_rows("select", part, Selected) for part in range(parts)))
        with selection_file(tables, rule, nothing).open("rb") as selected, build.writing(SELECTION) as file:
            shutil.copyfileobj(selected, file)


def _mark(build: Build, stage: Stage, number: int, parts: int, files: dict[str, str]) -> None:
    """Mark rows that the stage itself did not make; its own fingerprint differs, so ``surd build`` would redo it."""
    basis = json.dumps([IMPORTED, stage.name, stage.version, files], sort_keys=True)
    marker = Marker(
        stage=stage.name,
        part=number,
        parts=parts,
        fingerprint=hashlib.sha256(basis.encode()).hexdigest(),
        outputs=files,
        rows=0,
        seconds=0.0,
    )
    build.write_marker(marker)


def _imported_fields(record: SourceRecord, pair: Pair) -> dict[str, Any]:
    """The texts of a record, and the scores it was exported with if its bytes have not changed since."""
    row = untrusted_json.parse(record.extra) if record.extra else {}
    prompts = {"simple": row.get("simple"), "complex": record.prompt, "method": IMPORTED}
    exported = exported_sample(row, prompts["simple"] or "", record.prompt or "")
    is_unchanged = exported is not None and exported.sha256 == pair.sha256
    texts = prompts | _imported_captions(row.get(CAPTIONS_FIELD), keep_scores=is_unchanged)
    if exported is None or not is_unchanged:
        return texts
    scores = {name: value for name, value in row.items() if isinstance(value, float)}
    return scores | texts | {"method": exported.method}


def _imported_captions(value: Any, *, keep_scores: bool) -> dict[str, str]:
    """``captions`` of a row that has them; the reason as ``detail`` where they are not valid."""
    if value is None:
        return {}
    try:
        if not isinstance(value, str):
            raise ValueError(f"it is {type(value).__name__}, not the JSON text of a list")
        captions = parse_captions(value.encode())
    except ValueError as error:
        return {"detail": f"{CAPTIONS_FIELD} is left out: {error}"}
    if not keep_scores:
        captions = [caption.model_copy(update={"score": None}) for caption in captions]
    return {"captions": dump_captions(captions)} if captions else {}


def _row(model: type[Row], decoded: Row, fields: dict[str, Any]) -> Row:
    own = {name: value for name, value in fields.items() if name in model.model_fields} if decoded.kept else {}
    if model is not Corrected:  # Captioned has captions of its own, what a captioner saw
        own.pop("captions", None)
    return model.model_validate(decoded.verdict() | own)
