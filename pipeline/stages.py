"""The stages in order, and the contract that runs one unit of one: skip when its marker matches, else redo and mark."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.build import Build, marker_file, part_file
from pipeline.models import Models
from pipeline.models.safety import safety_files
from pipeline.sentences.lexicon import lexicon_file
from pipeline.sentences.rewrite_template import template_file
from pipeline.sentences.wording import wordings_file
from schemas import (
    BuildConfig,
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Marker,
    Pair,
    Rewritten,
    Row,
    Safe,
    Scored,
    Selected,
    ShardManifest,
    SourceRecord,
    Status,
    SurdError,
)
from schemas.config import CleanConfig, FetchConfig, ModelsConfig
from schemas.errors import FULL

log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
Scope = Literal["source", "partition", "build", "shard"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage reads, which models it needs, what its rows are and which part of the config it depends on.

    ``scope`` is its unit of work: ``partition`` and ``shard`` stages are maps over those; ``source`` and ``build``
    stages run once over everything (collect makes the partitions; dedup, select, pack and report reduce them). The
    function ``pipeline.<name>.<name>`` does the work: maps get ``(build, unit, settings, models)`` and return rows (or
    None when they have none); the others get ``(build, settings, models)`` and return rows per partition. ``data`` are
    files beside the code or of the user's own whose content the outcome depends on.
    """

    name: str
    version: int
    scope: Scope
    row: type[Row] | None = None
    reads: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    settings: Callable[[BuildConfig], BaseModel]
    data: Callable[[Any], tuple[Path, ...]] = lambda settings: ()

    def run(self) -> Callable[..., Any]:
        """The stage's function, imported when first needed: a skipped stage loads no library."""
        return getattr(importlib.import_module(f"pipeline.{self.name}"), self.name)  # type: ignore[no-any-return]


STAGES: tuple[Stage, ...] = (
    Stage(
        name="collect",
        version=3,
        scope="source",
        row=SourceRecord,
        settings=lambda c: BuildConfig(
            source=c.source,
            limit=c.limit,
            seed=c.seed,
            partition_size=c.partition_size,
            demo=c.demo,
            collect=c.collect,
            urls=c.urls,
            civitai=c.civitai,
            lexica=c.lexica,
            fetch=FetchConfig(allow_hosts=c.fetch.allow_hosts),
        ),
    ),
    Stage(
        name="fetch",
        version=5,
        scope="partition",
        row=Pair,
        reads=("collect",),
        settings=lambda c: BuildConfig(
            source=c.source, seed=c.seed, demo=c.demo, civitai=c.civitai, lexica=c.lexica, fetch=c.fetch
        ),
    ),
    Stage(
        name="decode",
        version=1,
        scope="partition",
        row=Decoded,
        reads=("fetch",),
        settings=lambda c: FetchConfig(max_pixels=c.fetch.max_pixels),
    ),
    Stage(
        name="clean",
        version=4,
        scope="partition",
        row=Cleaned,
        reads=("collect", "fetch", "decode"),
        roles=("clip",),
        settings=lambda c: c.clean,
        data=lambda s: (_HERE / "prompts/words.yaml",),
    ),
    Stage(
        name="dedup",
        version=2,
        scope="build",
        row=Deduped,
        reads=("fetch", "decode", "clean"),
        settings=lambda c: c.dedup,
    ),
    Stage(
        name="safety",
        version=1,
        scope="partition",
        row=Safe,
        reads=("fetch", "clean", "dedup"),
        settings=lambda c: BuildConfig(safety=c.safety, clean=CleanConfig(allow_nsfw=c.clean.allow_nsfw)),
        data=lambda s: safety_files(s.safety),
    ),
    Stage(
        name="score",
        version=2,
        scope="partition",
        row=Scored,
        reads=("fetch", "clean", "safety"),
        roles=("clip",),
        settings=lambda c: c.score,
    ),
    Stage(
        name="caption",
        version=2,
        scope="partition",
        row=Captioned,
        reads=("fetch", "safety"),
        roles=("captioner",),
        settings=lambda c: c.caption,
    ),
    Stage(
        name="rewrite",
        version=2,
        scope="partition",
        row=Rewritten,
        reads=("clean", "safety"),
        roles=("llm",),
        settings=lambda c: c.rewrite,
        data=lambda s: (template_file(s.template),),
    ),
    Stage(
        name="correct",
        version=3,
        scope="partition",
        row=Corrected,
        reads=("score", "caption", "rewrite"),
        roles=("clip", "llm"),
        settings=lambda c: c.correct,
        data=lambda s: (lexicon_file(s.lexicon), wordings_file(s.wordings)),
    ),
    Stage(
        name="select",
        version=2,
        scope="build",
        row=Selected,
        reads=("clean", "score", "correct"),
        roles=("clip",),
        settings=lambda c: c.select,
    ),
    Stage(
        name="pack",
        version=3,
        scope="build",
        reads=("collect", "fetch", "clean", "safety", "score", "correct", "select"),
        roles=("diffusion",),
        settings=lambda c: c.pack,
    ),
    Stage(
        name="embed",
        version=2,
        scope="shard",
        reads=("pack",),
        roles=("embed_llm", "diffusion"),
        settings=lambda c: BuildConfig(  # the models' names too: columns are called by them
            embed=c.embed,
            models=ModelsConfig(embed_llm=c.models.ref("embed_llm"), diffusion=c.models.diffusion),
        ),
    ),
    Stage(
        name="report",
        version=4,
        scope="build",
        reads=(
            "collect",
            "fetch",
            "decode",
            "clean",
            "dedup",
            "safety",
            "score",
            "caption",
            "rewrite",
            "correct",
            "select",
            "pack",
            "embed",
        ),
        settings=lambda c: c.report,
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one unit of one stage. ``rejected`` counts the rows this stage itself rejected, by reason."""

    stage: str
    unit: int
    skipped: bool
    rows: int
    seconds: float
    rejected: dict[str, int] = field(default_factory=dict)


def units(stage: Stage, build: Build) -> int:
    """How many units a stage has, once the stages it reads are done."""
    if stage.scope == "partition":
        return build.part_count()
    if stage.scope == "shard":
        return len(ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json")).shards)
    return 1


def run_unit(stage: Stage, unit: int, root: str, config: BuildConfig) -> Outcome:
    """Run one unit of a stage, or skip it when its marker matches what would be done.

    Raises SurdError for what is the user's to mend; anything else that is raised is a bug or a passing fault, and
    running again continues from the last marker.
    """
    try:
        return _run_unit(stage, unit, root, config)
    except OSError as error:
        if error.errno not in FULL:
            raise
        why = (error.strerror or "full").lower()
        raise SurdError(
            f"out is {root!r} and takes no more ({why}); make room and run again: it continues where it stopped"
        ) from error


def _run_unit(stage: Stage, unit: int, root: str, config: BuildConfig) -> Outcome:
    gc.set_threshold(10_000)  # rows live by the thousand, none in a cycle: looking for one took a tenth of fetch
    started = time.perf_counter()
    build, models, settings = Build(root), Models(config.models), stage.settings(config)
    fingerprint = _fingerprint(stage, unit, build, config, models)
    marker = build.marker(stage.name, unit)
    if marker and marker.fingerprint == fingerprint and not marker.transient:
        return Outcome(
            stage=stage.name, unit=unit, skipped=True, rows=marker.rows, seconds=time.perf_counter() - started
        )
    build.remove(marker_file(stage.name, unit))
    if stage.scope in ("partition", "shard"):
        found: Iterable[tuple[int, Any]] = [(unit, stage.run()(build, unit, settings, models))]
    else:
        found = enumerate(stage.run()(build, settings, models))
    parts, count, transient, rejected = 0, 0, 0, Counter[str]()
    for part, rows in found:  # a source may be longer than memory: each part is written as it comes
        if stage.row:
            build.write_rows(stage.name, part, stage.row, rows)
        parts, count = parts + 1, count + len(rows or ())
        transient += sum(bool(getattr(row, "transient", None)) for row in rows or ())
        mine = (row for row in rows or () if row.status is Status.REJECTED and row.rejected_by == stage.name)
        rejected.update(row.reason.value for row in mine)
    if stage.scope == "source":
        _drop_stale_parts(build, parts)
    marker = Marker(
        stage=stage.name,
        part=unit,
        parts=units(stage, build) if stage.scope in ("partition", "shard") else parts,
        fingerprint=fingerprint,
        outputs=dict(sorted(build.written.items())),
        rows=count,
        transient=transient,
        seconds=round(time.perf_counter() - started, 3),
    )
    build.write_json(marker_file(stage.name, unit), marker)
    log.info("%s %d: %d rows in %.1f s", stage.name, unit, count, marker.seconds)
    return Outcome(
        stage=stage.name, unit=unit, skipped=False, rows=count, seconds=marker.seconds, rejected=dict(rejected)
    )


def finish(stage: Stage, root: str, config: BuildConfig) -> None:
    """What a stage does once all its units are done (embed writes its column manifests); cheap, and always safe."""
    module = importlib.import_module(f"pipeline.{stage.name}")
    if hasattr(module, "finish"):
        module.finish(Build(root), stage.settings(config), Models(config.models))


def _fingerprint(stage: Stage, unit: int, build: Build, config: BuildConfig, models: Models) -> str:
    settings = stage.settings(config)
    basis = {
        "stage": stage.name,
        "version": stage.version,
        "settings": identity(settings, config),
        "models": {role: models.revision(role) for role in stage.roles},
        "inputs": {read: _input_hashes(BY_NAME[read], stage, unit, build) for read in stage.reads},
    }
    if files := stage.data(settings):
        basis["data"] = [_file_hash(file) for file in files]
    if stage.scope == "source":
        from pipeline.sources import open_source

        assert isinstance(settings, BuildConfig)
        basis["source"] = open_source(settings).fingerprint()
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()


def identity(settings: BaseModel, config: BuildConfig) -> dict[str, Any]:
    """What of a stage's settings decides its outcome: of a whole section of the ``config`` all, of a section or config
    that the stage made, what it gave it. The rest holds defaults, and a new one must not make it scrape again."""
    if any(settings is section for _, section in config):
        return settings.model_dump(mode="json")
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = settings.model_dump(mode="json", include=set(given))
    return plain | {name: identity(value, config) for name, value in given.items() if isinstance(value, BaseModel)}


def _file_hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise SurdError(f"{str(file)!r} cannot be read ({error.strerror}); give the path of a file") from None


def _input_hashes(read: Stage, reader: Stage, unit: int, build: Build) -> dict[str, str]:
    """Content hashes of what ``reader`` reads of ``read``: of its own partition for a map over partitions, else all."""
    same_unit = read.scope == reader.scope and read.scope in ("partition", "shard")
    wanted = [unit] if same_unit else range(units(read, build))
    hashes: dict[str, str] = {}
    for number in wanted:
        marker = build.marker(read.name, number)
        if marker is None:
            raise RuntimeError(f"{reader.name} needs {read.name} {number}, which is not done")
        hashes |= marker.outputs
    if reader.scope == "partition" and read.scope in ("source", "build"):
        mine = part_file(read.name, unit)
        return {mine: hashes[mine]}
    return hashes


def _drop_stale_parts(build: Build, parts: int) -> None:
    """Remove what an earlier, longer collect left behind in every stage."""
    for stage in STAGES:
        for name in build.listdir(stage.name):
            if (
                name.startswith("part-")
                and int(name[5:10]) >= parts
                and stage.scope in ("source", "partition", "build")
            ):
                build.remove(f"{stage.name}/{name}")
