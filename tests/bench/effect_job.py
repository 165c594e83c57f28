"""One job of bench-effect: an arm with a training seed, trained, drawn and judged into a JSON file."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sur_adapter.base_model import load_base
from sur_adapter.evaluation.evaluate import judge_files
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.prompts import read_eval_prompts
from sur_adapter.sampling.draw import RenderSettings, render
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.stable_diffusion import load_adapter
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.trainer import train
from surd.schemas import SurdError
from surd.schemas.model_ref import resolve_model
from tests.bench.effect_arms import Arm


@dataclass(frozen=True, kw_only=True)
class Job:
    """One arm with one training seed, and all that its result depends on."""

    arm: Arm
    seed: int
    shards: str
    prompts: Path
    training: dict[str, Any]
    out: Path
    base: str
    judge: str
    drawing: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.out / f"{self.arm.slug}-{self.seed}.json"

    def identity(self) -> str:
        """Hash of all that the result depends on: settings, prompts, data and the models' weights."""
        basis = asdict(self)
        del basis["out"], basis["arm"]["note"], basis["arm"]["trial"]
        basis["files"] = [_content(str(self.prompts)), *(_content(ref) for ref in (self.base, self.judge))]
        if self.arm.training is not None:
            basis["settings"] = _settings(self).fingerprinted_settings()
            basis["data"] = _content(str(Path(self.shards).parent / "manifest.json"))
        return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()

    def done(self) -> bool:
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))["identity"] == self.identity()
        except (OSError, ValueError, KeyError):
            return False


def run_job(job: Job) -> str:
    """Train (if the arm does), draw, judge, write the job's JSON and its features; returns a line to print."""
    prompts = read_eval_prompts(job.prompts)
    folder = job.out / f"{job.arm.slug}-{job.seed}"
    shutil.rmtree(folder / "pictures", ignore_errors=True)
    started = time.perf_counter()
    trained, adapter = {}, None
    if job.arm.training is not None:
        trained = _train(job, folder / "adapter")
        adapter = load_adapter(folder / "adapter")
    training_seconds = time.perf_counter() - started
    pipe, judge = _models(job.base, job.judge)
    judge.check(prompts)
    files = render(
        with_adapter(pipe, adapter), _texts(job), RenderSettings(**job.drawing), folder / "pictures", lambda _: None
    )
    judged = judge_files(judge, files, prompts)
    assert judged.features is not None
    np.save(folder / "features.npy", judged.features.numpy().astype(np.float16))
    document = {
        "identity": job.identity(), "arm": job.arm.name, "seed": job.seed, "training": job.training, "trained": trained,
        "training_seconds": round(training_seconds, 1), "seconds": round(time.perf_counter() - started, 1),
        "scores": judged.scores.tolist(), "facts": {name: float(np.nanmean(v)) for name, v in judged.facts.items()},
    }  # fmt: skip
    partial = job.file.with_suffix(".partial")
    partial.write_text(json.dumps(document), encoding="utf-8")
    partial.replace(job.file)
    return f"{100 * judged.scores.mean():.1f}% of the pictures right, {document['seconds']:.0f} s"


def _train(job: Job, folder: Path) -> dict[str, Any]:
    overrides = {"out": folder, "device": "cpu", "checkpoint_every": 0, "resume": False}
    return train(_settings(job).model_copy(update=overrides)).model_dump(mode="json")


def _settings(job: Job) -> TrainConfig:
    """All that training depends on, defaults included."""
    column = {} if job.training.get("w_llm") == 0 else {"llm_column": _column(job)}
    settings = {"shards": job.shards, "base": job.base, "seed": job.seed}
    return TrainConfig.model_validate(settings | column | job.training)


def _column(job: Job) -> str:
    """The LLM column of the arm's layer, pooled by mean unless the arm trains on tokens."""
    columns = Path(job.shards).parent.parent / "columns"
    tail = "-tokens" if job.training.get("llm_targets") == "tokens" else ""
    names = [path.name for path in columns.glob(f"llm-*-l{job.arm.layer}{tail}")]
    if len(names) != 1:
        raise SurdError(
            f"--shards is {job.shards}: it has no column of LLM layer {job.arm.layer}; use surd columns add"
        )
    return names[0]


def _texts(job: Job) -> list[str]:
    if job.arm.prompts == "rewritten":
        return list(json.loads(job.prompts.with_suffix(".rewritten.json").read_text(encoding="utf-8")))
    prompts = read_eval_prompts(job.prompts)
    return [str(one.complex if job.arm.prompts == "complex" else one.prompt) for one in prompts]


@lru_cache(maxsize=1)
def _models(base: str, judge: str) -> tuple[Any, Any]:
    return load_base(base), load_judge(judge)


@lru_cache(maxsize=64)
def _content(ref: str) -> str:
    """Hash of a file, or of the files in a model's folder."""
    path = Path(resolve_model(ref))
    digest = hashlib.sha256()
    for file in sorted(_files(path)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    suffixes = (".json", ".safetensors")
    yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.suffix in suffixes)
