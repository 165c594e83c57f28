"""One job of bench-effect: an arm with a training seed, trained once, then drawn and judged on each file of prompts."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sur_adapter.base_model import Pipeline, load_base
from sur_adapter.evaluation.evaluate import judge_files
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.prompts import EvalPrompt, read_eval_prompts
from sur_adapter.files import write_json
from sur_adapter.sampling.draw import RenderSettings, render
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.stable_diffusion import load_adapter
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.trainer import train
from surd.schemas import SurdError
from surd.schemas.model_ref import resolve_model
from tests.bench.effect_arms import Arm
from tests.bench.effect_controls import TEXT_LLM, CompelPipeline, text_encoder_llm
from tests.bench.effect_data import llm_columns, text_file
from tests.bench.effect_lora import TEXT, UNET, lora_pipeline, train_lora


@dataclass(frozen=True, kw_only=True)
class Job:
    """One arm with one training seed, and all that its result depends on. ``prompts``: tier -> file of its prompts."""

    arm: Arm
    seed: int
    shards: str
    prompts: Mapping[str, Path]
    training: Mapping[str, Any]
    out: Path
    base: str
    judge: str
    drawing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.out / f"{self.arm.slug}-{self.seed}.json"

    @property
    def folder(self) -> Path:
        """For the adapter, the pictures and the judge's features."""
        return self.out / f"{self.arm.slug}-{self.seed}"

    def texts(self, tier: str) -> list[str]:
        """What the pipeline is given for the prompts of a tier."""
        prompts = read_eval_prompts(self.prompts[tier])
        if self.arm.kind in ("rewritten", "compel"):
            texts = json.loads(text_file(self.prompts[tier], self.arm.kind).read_text(encoding="utf-8"))
            return [texts[one.prompt] for one in prompts]
        return [str(one.complex if self.arm.prompts == "complex" else one.prompt) for one in prompts]

    @cached_property
    def training_identity(self) -> str:
        """Hash of all that the trained weights depend on: settings, seed, data, columns and the base model."""
        arm = asdict(self.arm)
        for name in ("name", "note", "trial", "prompts"):
            del arm[name]
        basis = {"arm": arm, "base": _content(self.base)}
        if self.arm.training is not None:
            settings = self.settings()
            build = Path(self.shards).parent.parent
            columns = {str(settings.llm_column), "latents", "clip-simple", "clip-complex"}
            manifests = [build / "shards", *(build / "columns" / name for name in sorted(columns))]
            basis |= {
                "seed": self.seed, "training": dict(self.training), "settings": settings.fingerprinted_settings(),
                "data": [_content(str(folder / "manifest.json")) for folder in manifests if folder.is_dir()],
            }  # fmt: skip
        return _hash(basis)

    def identity(self, tier: str) -> str:
        """Hash of all that the result on a tier depends on."""
        files = {name: _content(ref) for name, ref in (("prompts", str(self.prompts[tier])), ("judge", self.judge))}
        return _hash(
            {"trained": self.training_identity, "texts": self.texts(tier), "drawing": dict(self.drawing)} | files
        )

    def pictures(self, tier: str) -> Path:
        """Named by all that decides the pictures: tiers of the same texts, such as keyword prompts, share them."""
        basis = {"trained": self.training_identity, "texts": self.texts(tier), "drawing": dict(self.drawing)}
        return self.folder / "pictures" / _hash(basis)[:16]

    def results(self) -> dict[str, Any]:
        """The tiers that are done: their scores and facts, by tier."""
        try:
            tiers = json.loads(self.file.read_text(encoding="utf-8"))["tiers"]
            return {
                name: tiers[name] for name in self.prompts if tiers.get(name, {}).get("identity") == self.identity(name)
            }
        except (OSError, ValueError, KeyError, AttributeError):
            return {}

    def done(self) -> bool:
        return len(self.results()) == len(self.prompts)

    def settings(self) -> TrainConfig:
        """All that training depends on, defaults included."""
        suffix = self.arm.column_suffix(self.training)
        column = {} if suffix is None else {"llm_column": self._column(suffix)}
        if self.arm.llm == "text encoder":
            folder = self.out.parent.resolve() / TEXT_LLM
            column = {"llm": str(text_encoder_llm(Path(resolve_model(self.base)), folder))}
        settings = {"shards": self.shards, "base": self.base, "seed": self.seed}
        return TrainConfig.model_validate(settings | column | dict(self.training))

    def _column(self, suffix: str) -> str:
        names = llm_columns(Path(self.shards).parent.parent, suffix, random=self.arm.llm == "random")
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise SurdError(
                f"--shards is {self.shards}: arm {self.arm.name!r} reads one LLM column named llm-*-{suffix}, and there"
                f" is {found}; use surd columns add"
            )
        return names[0]


def run_job(job: Job) -> str:
    """Train (if the arm does and is not trained), then draw and judge each tier that is not done.

    Results are written after every tier, so that a killed job continues. Returns a line to print.
    """
    started = time.perf_counter()
    results = job.results()
    trained = _trained(job)
    pipe = _pipeline(job)
    judge = _judge(job.judge)
    for tier in job.prompts:
        if tier not in results:
            results[tier] = _draw(job, tier, pipe, judge)
            document = {
                "arm": job.arm.name, "seed": job.seed, "training": dict(job.training), **trained, "tiers": results,
            }  # fmt: skip
            partial = job.file.with_suffix(".partial")
            partial.write_text(json.dumps(document), encoding="utf-8")
            partial.replace(job.file)
    right = ", ".join(f"{tier} {100 * np.mean(result['scores']):.1f}" for tier, result in results.items())
    return f"{right} % of the pictures right, {time.perf_counter() - started:.0f} s"


def _draw(job: Job, tier: str, pipe: Pipeline, judge: Any) -> dict[str, Any]:
    prompts: list[EvalPrompt] = read_eval_prompts(job.prompts[tier])
    judge.check(prompts)
    started = time.perf_counter()
    pictures = job.pictures(tier)
    files = render(pipe, job.texts(tier), RenderSettings(**job.drawing), pictures, lambda _: None)
    judged = judge_files(judge, files, prompts)
    assert judged.features is not None
    np.save(job.folder / f"features-{tier}.npy", judged.features.numpy().astype(np.float16))
    return {
        "identity": job.identity(tier), "pictures": pictures.name, "seconds": round(time.perf_counter() - started, 1),
        "scores": judged.scores.tolist(), "facts": {name: float(np.nanmean(v)) for name, v in judged.facts.items()},
    }  # fmt: skip


def _trained(job: Job) -> dict[str, Any]:
    """Train into ``adapter`` of the job's folder, unless these weights are there: seconds, weights, the result."""
    if job.arm.training is None:
        return {"training_seconds": 0.0, "weights": 0}
    folder = job.folder / "adapter"
    record = folder / "trained.json"
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        if stored.pop("identity") == job.training_identity:
            return dict(stored)
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    overrides = {"out": folder, "device": "cpu", "checkpoint_every": 0, "resume": False}
    outcome = _TRAININGS[str(job.arm.kind)](job, job.settings().model_copy(update=overrides))
    trained = outcome | {"training_seconds": round(time.perf_counter() - started, 1)}
    write_json(record, trained | {"identity": job.training_identity})
    return trained


def _train_adapter(job: Job, config: TrainConfig) -> dict[str, Any]:
    result = train(config)
    adapter = load_adapter(config.out)
    return {
        "weights": sum(weight.numel() for weight in adapter.parameters() if weight.requires_grad),
        "result": result.model_dump(mode="json"),
    }


def _train_lora(job: Job, config: TrainConfig) -> dict[str, Any]:
    return train_lora(str(job.arm.kind), config, job.arm.weights)


_TRAININGS: dict[str, Callable[[Job, TrainConfig], dict[str, Any]]] = {
    "adapter": _train_adapter, UNET: _train_lora, TEXT: _train_lora,
}  # fmt: skip


def _pipeline(job: Job) -> Pipeline:
    """What draws the arm's pictures."""
    if job.arm.kind in (UNET, TEXT):
        return lora_pipeline(job.arm.kind, job.base, job.folder / "adapter")
    if job.arm.kind == "compel":
        return CompelPipeline(_base(job.base))
    adapter = load_adapter(job.folder / "adapter") if job.arm.kind == "adapter" else None
    return with_adapter(_base(job.base), adapter)


@lru_cache(maxsize=1)
def _base(ref: str) -> Any:
    return load_base(ref)


@lru_cache(maxsize=1)
def _judge(ref: str) -> Any:
    return load_judge(ref)


def _hash(basis: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=256)
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
