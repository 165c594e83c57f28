"""Evaluation of an adapter: what pictures with and without it show, on the same noise."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import Pipeline, load_base, networks, pick_device
from sur_adapter.evaluation.bootstrap import bootstrap
from sur_adapter.evaluation.config import Compared, EvalConfig, EvalResult
from sur_adapter.evaluation.image_quality import ImageMetric, load_image_metric
from sur_adapter.evaluation.judge import load_judge
from sur_adapter.evaluation.kid import kid, paired_kernel
from sur_adapter.evaluation.prompts import EvalPrompt, by_category, read_eval_prompts
from sur_adapter.evaluation.protocol import check_protocol, write_protocol
from sur_adapter.evaluation.verdict import Judge
from sur_adapter.files import weights_fingerprint, write_json
from sur_adapter.sampling.draw import RenderSettings, render
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.sampling.grid import draw_grid
from sur_adapter.stable_diffusion import load_adapter
from surd.schemas.errors import SurdError

#: The categories of the paper's own evaluation.
PAPER_CATEGORIES = ("action", "colour", "counting")
LEAST_FOR_KID = 16
GRID_ROWS = 1


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judge's verdicts on S pictures each of P prompts: ``scores`` [S, P]; ``facts``, group -> right [S, P], NaN
    if a prompt states none; ``features`` [S, P, D], None if the judge has none."""

    scores: np.ndarray
    facts: dict[str, np.ndarray]
    features: Tensor | None


def evaluate(config: EvalConfig, on_pictures: Callable[[int, int], None] | None = None) -> EvalResult:
    """Render with and without the adapter, judge, write pictures, ``result.json`` and ``grid.png`` to ``config.out``.

    ``on_pictures(done, total)`` reports progress. Pictures in ``config.out`` from the same settings are reused. User
    errors raise SurdError.
    """
    started_at = time.perf_counter()
    prompts = _first(read_eval_prompts(config.prompts), config.limit)
    adapter = load_adapter(config.adapter, config.eta)
    base = config.base or adapter.config["base_model"]
    if base is None:
        raise SurdError(f"--base: the adapter in {config.adapter} does not name its base model; name it here")
    device = pick_device(config.device)
    pipe = load_base(base, device)
    judge = load_judge(config.judge, device)
    judge.check(prompts)
    check_protocol(config, prompts)
    metrics = {metric: load_image_metric(metric, config.judge, device) for metric in config.quality}
    arms: dict[str, tuple[list[str], Any]] = {
        "base": ([item.prompt for item in prompts], None),
        "adapter": ([item.prompt for item in prompts], torch.nn.Module.to(adapter, device)),
    }
    if config.complex:
        arms["complex"] = (_complex(prompts, config), None)
    _claim(config, prompts, adapter, pipe)

    options = {"seeds", "steps", "guidance_scale", "batch_size", "precision"}
    settings = RenderSettings(**config.model_dump(include=options))
    total, done = len(arms) * settings.seeds * len(prompts), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if on_pictures:
            on_pictures(done, total)

    files = {
        name: render(with_adapter(pipe, module, config.llm), texts, settings, config.out / "images" / name, count)
        for name, (texts, module) in arms.items()
    }
    laid = write_protocol(config, prompts, files)  # before judging, which may take longer
    verdicts = {name: judge_files(judge, paths, prompts) for name, paths in files.items()}
    result = _result(config, base, judge, metrics, prompts, files, verdicts)
    result = result.model_copy(update={"protocol": laid, "seconds": round(time.perf_counter() - started_at, 1)})
    _grid(config.out / "grid.png", prompts, files, verdicts, judge)
    write_json(config.out / "result.json", result.model_dump())
    return result


def judge_files(judge: Judge, files_SP: np.ndarray, prompts: Sequence[EvalPrompt]) -> Judged:
    """The judge's verdicts on the files of ``render``."""
    seeds, count = files_SP.shape
    verdicts, features = judge(list(files_SP.flat), list(prompts) * seeds)
    groups = sorted({group for verdict in verdicts for group in verdict.facts})
    return Judged(
        scores=np.array([verdict.score for verdict in verdicts]).reshape(seeds, count),
        facts={
            group: np.array([verdict.facts.get(group, np.nan) for verdict in verdicts], float).reshape(seeds, count)
            for group in groups
        },
        features=None if features is None else features.view(seeds, count, -1),
    )


def compare(scores: Mapping[str, np.ndarray], *groups: list[int]) -> Compared:
    """Arms' scores [S, P] on groups of prompt indices: each mean, and adapter minus base."""
    difference = scores["adapter"] - scores["base"]
    return Compared(
        prompts=sum(map(len, groups)),
        arms={name: bootstrap(*(values[:, columns] for columns in groups)) for name, values in scores.items()},
        difference=bootstrap(*(difference[:, columns] for columns in groups)),
    )


def _compare_measured(scores: Mapping[str, np.ndarray]) -> Compared | None:
    """``compare`` on the prompts of which every picture has a score; None if there is none."""
    measured = np.all([np.isfinite(values).all(axis=0) for values in scores.values()], axis=0)
    return compare(scores, np.flatnonzero(measured).tolist()) if measured.any() else None


def compare_kid(features: Mapping[str, Tensor], real_PD: Tensor) -> Compared:
    """Kernel distance of every arm's features [S, P, D] to those of the prompts' real pictures."""

    kernels = {name: paired_kernel(real_PD, fake_SPD) for name, fake_SPD in features.items()}
    return Compared(
        prompts=len(real_PD),
        arms={name: kid(h_PP) for name, h_PP in kernels.items()},
        difference=kid(kernels["adapter"] - kernels["base"]),
    )


def _result(
    config: EvalConfig,
    base: str,
    judge: Judge,
    metrics: dict[str, ImageMetric],
    prompts: list[EvalPrompt],
    files: dict[str, np.ndarray],
    verdicts: dict[str, Judged],
) -> EvalResult:
    scores = {name: item.scores for name, item in verdicts.items()}
    indices = by_category(prompts)
    headline = [indices[name] for name in PAPER_CATEGORIES if name in indices]
    on_real, distance = _against_real(judge, prompts, verdicts)
    rated = {metric: {name: rate(paths) for name, paths in files.items()} for metric, rate in metrics.items()}
    return EvalResult(
        prompts=str(config.prompts),
        adapter=str(config.adapter),
        base=base,
        judge=config.judge,
        unit=judge.unit,
        judge_accuracy=judge.accuracy,
        judge_on_real=on_real,
        seeds=config.seeds,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        categories={name: compare(scores, columns) for name, columns in indices.items()},
        average=compare(scores, *(headline if len(headline) == len(PAPER_CATEGORIES) else indices.values())),
        facts=_facts(verdicts),
        kid=distance,
        quality={metric: compared for metric, values in rated.items() if (compared := _compare_measured(values))},
        seconds=0,
    )


def _against_real(
    judge: Judge, prompts: list[EvalPrompt], verdicts: dict[str, Judged]
) -> tuple[dict[str, float] | None, Compared | None]:
    """The judge's score on the real pictures of the prompts that have one, by category; and the distance to them."""
    indices = [index for index, item in enumerate(prompts) if item.image]
    if not indices:
        return None, None
    shown = [prompts[index] for index in indices]
    real = judge_files(judge, np.array([[item.image for item in shown]], dtype=object), shown)
    on_real = {name: float(real.scores[:, columns].mean()) for name, columns in by_category(shown).items()}
    features = {name: item.features[:, indices] for name, item in verdicts.items() if item.features is not None}
    if real.features is None or len(indices) < LEAST_FOR_KID:
        return on_real, None
    return on_real, compare_kid(features, real.features[0])


def _facts(verdicts: dict[str, Judged]) -> dict[str, dict[str, float]]:
    return {
        group: {name: float(np.nanmean(item.facts[group])) for name, item in verdicts.items()}
        for group in verdicts["base"].facts
    }


def _first(prompts: list[EvalPrompt], limit: int | None) -> list[EvalPrompt]:
    kept = sorted(index for indices in by_category(prompts).values() for index in indices[:limit])
    return [prompts[index] for index in kept]


def _complex(prompts: list[EvalPrompt], config: EvalConfig) -> list[str]:
    texts = [item.complex for item in prompts if item.complex]
    if len(texts) < len(prompts):
        without = len(prompts) - len(texts)
        raise SurdError(f"--complex: {without} prompts of {str(config.prompts)!r} have no complex one; drop the flag")
    return texts


#: Settings of the result alone: the pictures of another judge or of fewer seeds are drawn alike.
_OF_RESULT = ("judge", "quality", "seeds", "complex")


def _claim(config: EvalConfig, prompts: list[EvalPrompt], adapter: SURAdapter, pipe: Pipeline) -> None:
    """Record this run's settings in the folder.

    SurdError if it holds pictures or a result of other settings, unless they are to be replaced.
    """
    texts = json.dumps([[item.prompt, item.complex] for item in prompts])
    settings = config.model_dump(mode="json", include={"steps", "guidance_scale", "eta", "precision"}) | {
        "base model": weights_fingerprint(
            tensor for item in networks(pipe).values() for tensor in item.state_dict().values()
        ),
        "prompts": hashlib.sha256(texts.encode()).hexdigest(),
        "adapter": weights_fingerprint(adapter.state_dict().values()),
    }
    of_result = config.model_dump(mode="json", include=set(_OF_RESULT))
    file, images = config.out / "run.json", config.out / "images"
    remedy = "name another folder, or replace it with --overwrite"
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        stored: Any = {}
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError(f"{file.name} is not a record of a run")
        elif not config.overwrite and (images.exists() or (config.out / "result.json").exists()):
            raise SurdError(f"--out: {str(config.out)!r} holds pictures or a result, and no run.json; {remedy}")
        changed = sorted(name for name in settings if settings[name] != stored.get(name))
        others = sorted(name for name in of_result if name in stored and of_result[name] != stored[name])
        if "seeds" in others and config.seeds > stored["seeds"]:  # the same and more
            others.remove("seeds")
        if stored and (changed or others) and not config.overwrite:
            what = "pictures" if changed else "a result"
            raise SurdError(
                f"--out: {str(config.out)!r} holds {what} of another {', '.join(changed or others)}; {remedy}"
            )
        if changed and images.exists():
            shutil.rmtree(images)
        write_json(file, settings | of_result)
    except (OSError, ValueError) as error:
        raise SurdError(f"--out: {str(config.out)!r} cannot be used ({error}); name another folder") from error


def _grid(
    path: Path,
    prompts: list[EvalPrompt],
    files: dict[str, np.ndarray],
    verdicts: dict[str, Judged],
    judge: Judge,
) -> None:
    """The first prompt of each category, with one picture of every arm, the judge's verdict under it, and, if all have
    one, the real picture."""
    rows = [index for indices in by_category(prompts).values() for index in indices[:GRID_ROWS]]
    columns: dict[str, list[Path]] = {name: [paths[0, index] for index in rows] for name, paths in files.items()}
    real = [prompts[index].image for index in rows]
    if all(real):
        columns["real"] = [file for file in real if file]
    shown = {name: [_load(file) for file in column] for name, column in columns.items()}
    captions = {name: [_said(judged, index, judge.unit) for index in rows] for name, judged in verdicts.items()}
    if "real" in columns:
        judged = judge_files(judge, np.array([columns["real"]], dtype=object), [prompts[index] for index in rows])
        captions["real"] = [_said(judged, place, judge.unit) for place in range(len(rows))]
    draw_grid([f"{prompts[index].category}: {prompts[index].prompt}" for index in rows], shown, captions).save(path)


def _said(judged: Judged, index: int, unit: str) -> str:
    """The verdict on a prompt's first picture as the grid shows it: right, wrong and which facts, or the score."""
    score = judged.scores[0, index]
    if unit != "accuracy":
        return f"{unit} {score:.2f}"
    missing = [group for group, shown in judged.facts.items() if shown[0, index] == 0]
    return "right" if score else f"wrong: {', '.join(missing)}"


def _load(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")
