"""What a build would do, without doing it: records, bytes to download, models, stages and minutes.

Nothing is written, downloaded or locked. What takes longer than the time given is left as not known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from surd.flows.build_request import BuildRequest, read_record
from surd.flows.model_table import ModelLine, model_lines
from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.remaining import StageWork, bytes_a_record, collected, fresh_work, remaining_work
from surd.pipeline.models.check import check_role, roles_needed
from surd.pipeline.models.model_files import model_files
from surd.pipeline.sources.count import PICTURES_HERE, SourceCount, count_records
from surd.schemas import BuildConfig, SurdError
from surd.schemas.clip_ref import clip_ref
from surd.schemas.model_ref import SERVER_PREFIX, existing_path, resolve_model

SECONDS = 9.0  # for all of it
_COUNTING = 3.0  # of them, for the records of the source

_WEIGHTS = (".safetensors", ".bin", ".pth", ".gguf")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """A model that a stage loads: where it is, its bytes on this machine, and what is wrong with it, if anything.

    ``present``: on this machine, or a server. ``checked``: False where there was no time. ``needed``: a stage that
    would run loads it.
    """

    role: str
    ref: str
    resolved: str
    present: bool
    size: int
    stages: tuple[str, ...]
    needed: bool
    checked: bool = True
    fault: SurdError | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a build would do. ``records``: of the source; of a build whose collect is done, those of the build.

    ``download``: bytes of pictures yet to be fetched from the network; None: not known. ``stages``: None: there was no
    time to look.
    """

    out: str
    exists: bool
    profile: str | None
    source: str
    remembered: dict[str, object]
    records: SourceCount
    limit: int | None
    download: int | None
    models: list[ModelState]
    stages: list[StageWork] | None
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[SurdError]:
        """What is wrong with the models that stages would load."""
        return [model.fault for model in self.models if model.fault and model.needed]

    @property
    def to_run(self) -> list[str]:
        """The stages that would run."""
        return [work.stage for work in self.stages or () if not work.is_done]

    @property
    def seconds(self) -> float | None:
        """How long the stages would take that have run in this build before; None: none of them has."""
        known = [work.seconds for work in self.stages or () if not work.is_done and work.seconds is not None]
        return sum(known) if known or (self.stages and not self.to_run) else None

    @property
    def untimed(self) -> list[str]:
        """The stages that would run and have not run in this build before."""
        return [work.stage for work in self.stages or () if not work.is_done and work.seconds is None]


def forecast(request: BuildRequest, seconds: float = SECONDS) -> Forecast:
    """What ``run_build`` would do with the request. Raises SurdError where the source is not valid."""
    end = time.monotonic() + seconds
    build, config = Build(request.out), request.config
    exists = read_record(build) is not None
    count = count_records(config, min(_COUNTING, seconds / 3))
    notes: list[str] = []
    stages: list[StageWork] | None = fresh_work()
    if exists:
        rows = count.records if count.complete else None
        work = partial(remaining_work, build, config, rows, refresh=request.refresh)
        stages = _within(end - time.monotonic() - 1.0, work)
        if stages is None:
            notes.append("there was no time to see which stages are done: a local model is large, or the build is slow")
        elif (known := collected(build, stages)) is not None:
            count = SourceCount(known, True, count.size)
    models = _models(config, stages, end)
    return Forecast(
        out=request.out,
        exists=exists,
        profile=request.profile,
        source=request.source,
        remembered=dict(request.remembered),
        records=count,
        limit=config.limit,
        download=_download(build, config, count, stages) if stages else None,
        models=models,
        stages=stages,
        notes=notes,
    )


def _download(build: Build, config: BuildConfig, count: SourceCount, stages: list[StageWork]) -> int | None:
    fetch = next(work for work in stages if work.stage == "fetch")
    if fetch.is_done or config.source.partition(":")[0] in PICTURES_HERE:
        return 0
    mean = bytes_a_record(build)
    if mean is None:
        return count.size
    records = count.records if count.records is not None else config.limit
    if records is None:
        return None
    share = 1.0 if fetch.to_run is None else fetch.to_run / max(1, fetch.done + fetch.to_run)
    return round(mean * records * share)


def _models(config: BuildConfig, stages: list[StageWork] | None, end: float) -> list[ModelState]:
    """The models that the config needs, each checked as a build would while there is time."""
    lines = {line.role: line for line in model_lines(config.models)}
    pending = {work.stage for work in stages if not work.is_done} if stages is not None else None
    states = []
    for role, loaded_by in roles_needed(config).items():
        line = lines.get(role) or _other(role, config)
        needed = pending is None or bool(pending.intersection(loaded_by))
        fault = _within(end - time.monotonic(), lambda: _fault(role, config)) if needed else ""  # noqa: B023 - waited for
        states.append(
            ModelState(
                role=role,
                ref=line.ref,
                resolved=line.resolved,
                present=line.present and not isinstance(fault, SurdError),
                size=line.size,
                stages=loaded_by,
                needed=needed,
                checked=fault is not None,
                fault=fault if isinstance(fault, SurdError) else None,
            )
        )
    return states


def _fault(role: str, config: BuildConfig) -> SurdError | str:
    """Why a role's model cannot be had; "" where it can.

    Whether it can do what is asked of it is seen when the build begins: that loads transformers, which takes seconds,
    and fetches the config of a model that is on the hub alone.
    """
    try:
        if (ref := _folder_or_hub(role, config)) is None:
            check_role(role, config)
            return ""
        files = model_files(role if "." in role else f"models.{role}", ref)
    except SurdError as error:
        return error
    path = existing_path(resolve_model(ref))
    if not (path and path.is_file()) and not any(name.endswith(_WEIGHTS) for name in files.names):
        return files.fault("it has no weights; copy the whole model")
    return ""


def _folder_or_hub(role: str, config: BuildConfig) -> str | None:
    """The folder, file or hub id of a role's model; None where it is something else, which is checked in no time."""
    section, _, name = role.partition(".")
    if name:
        return getattr(config.safety, name) if section == "safety" else None
    ref = config.models.ref(role)
    if role == "clip":
        named = clip_ref(ref)
        return None if named.kind in ("open_clip", "checkpoint") else named.name
    return None if role == "vlm" or ref.startswith(SERVER_PREFIX) else ref


def _other(role: str, config: BuildConfig) -> ModelLine:
    """A model that has no role of ``models``: of safety, of the facts, of the measures of quality."""
    section, _, name = role.partition(".")
    ref = getattr(getattr(config, section), name)
    shown = ref if isinstance(ref, str) else "shipped"
    return ModelLine(role=role, ref=shown, resolved=shown, present=True, size=0)


def _within(seconds: float, work: Callable[[], T]) -> T | None:
    """What ``work`` gives, or None where it takes longer; it then goes on until the process ends."""
    if seconds <= 0:
        return None
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return results[0] if results else None
