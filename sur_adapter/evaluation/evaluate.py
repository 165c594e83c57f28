"""Turns an adapter and a file of prompts into figures: what pictures with and without it show, on equal noise."""

from __future__ import annotations

import hashlib
import json
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
from sur_adapter.evaluation.image_quality import Rater, load_rater
from sur_adapter.evaluation.judge import Judge, load_judge
from sur_adapter.evaluation.kid import kid, paired_kernel
from sur_adapter.evaluation.prompts import EvalPrompt, by_category, read_eval_prompts
from sur_adapter.files import weights_fingerprint, write_json
from sur_adapter.sampling.draw import Drawing, draw
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.sampling.grid import draw_grid
from sur_adapter.stable_diffusion import load_adapter
from surd.schemas.errors import SurdError

#: The categories of the paper's own evaluation.
PAPER_CATEGORIES = ("action", "colour", "counting")
LEAST_FOR_KID = 16
GRID_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a judge says of S pictures each of P prompts: ``scores`` [S, P]; ``facts``, group -> right [S, P], NaN where
    a prompt does not state one; ``features`` [S, P, D], None where the judge has none."""

    scores: np.ndarray
    facts: dict[str, np.ndarray]
    features: Tensor | None


def evaluate(config: EvalConfig, on_pictures: Callable[[int, int], None] | None = None) -> EvalResult:
    """Draw with and without the adapter, judge, and write pictures, ``result.json`` and ``grid.png`` to ``config.out``.

    ``on_pictures`` hears how many pictures there are and how many there will be. Pictures that lie in ``config.out``
    from the same settings are kept. Raises SurdError for whatever is the user's to mend.
    """
    began = time.perf_counter()
    prompts = _first(read_eval_prompts(config.prompts), config.limit)
    adapter = load_adapter(config.adapter, config.eta)
    base = config.base or adapter.config["base_model"]
    if base is None:
        raise SurdError(f"--base: the adapter in {config.adapter} does not name its base model; name it here")
    device = pick_device(config.device)
    pipe = load_base(base, device)
    judge = load_judge(config.judge, device)
    judge.check(prompts)
    raters = {metric: load_rater(metric) for metric in config.quality}
    arms: dict[str, tuple[list[str], Any]] = {
        "base": ([one.prompt for one in prompts], None),
        "adapter": ([one.prompt for one in prompts], torch.nn.Module.to(adapter, device)),
    }
    if config.complex:
        arms["complex"] = (_complex(prompts, config), None)
    _claim(config, prompts, adapter, pipe)

    how = Drawing(**config.model_dump(include={"seeds", "steps", "guidance_scale", "batch_size", "precision"}))
    total, done = len(arms) * how.seeds * len(prompts), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if on_pictures:
            on_pictures(done, total)

    files = {
        name: draw(with_adapter(pipe, module), texts, how, config.out / "images" / name, count)
        for name, (texts, module) in arms.items()
    }
    result = _result(config, base, judge, raters, prompts, files)
    result = result.model_copy(update={"seconds": round(time.perf_counter() - began, 1)})
    _grid(config.out / "grid.png", prompts, files)
    write_json(config.out / "result.json", result.model_dump())
    return result


def judge_files(judge: Judge, files_SP: np.ndarray, prompts: Sequence[EvalPrompt]) -> Judged:
    """The judge's word on the pictures of ``draw``."""
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
    """Arms' scores [S, P] on groups of prompts' places: each mean, and adapter minus base."""
    difference = scores["adapter"] - scores["base"]
    return Compared(
        prompts=sum(map(len, groups)),
        arms={name: bootstrap(*(values[:, at] for at in groups)) for name, values in scores.items()},
        difference=bootstrap(*(difference[:, at] for at in groups)),
    )


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
    raters: dict[str, Rater],
    prompts: list[EvalPrompt],
    files: dict[str, np.ndarray],
) -> EvalResult:
    judged = {name: judge_files(judge, paths, prompts) for name, paths in files.items()}
    scores = {name: one.scores for name, one in judged.items()}
    places = by_category(prompts)
    headline = [places[name] for name in PAPER_CATEGORIES if name in places]
    on_real, distance = _against_real(judge, prompts, judged)
    rated = {metric: {name: rate(paths) for name, paths in files.items()} for metric, rate in raters.items()}
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
        categories={name: compare(scores, at) for name, at in places.items()},
        average=compare(scores, *(headline if len(headline) == len(PAPER_CATEGORIES) else places.values())),
        facts=_facts(judged),
        kid=distance,
        quality={metric: compare(values, list(range(len(prompts)))) for metric, values in rated.items()},
        seconds=0,
    )


def _against_real(
    judge: Judge, prompts: list[EvalPrompt], judged: dict[str, Judged]
) -> tuple[dict[str, float] | None, Compared | None]:
    """The judge's score on the real pictures of the prompts that have one, by category; and the distance to them."""
    places = [place for place, one in enumerate(prompts) if one.image]
    if not places:
        return None, None
    shown = [prompts[place] for place in places]
    real = judge_files(judge, np.array([[one.image for one in shown]], dtype=object), shown)
    on_real = {name: float(real.scores[:, at].mean()) for name, at in by_category(shown).items()}
    features = {name: one.features[:, places] for name, one in judged.items() if one.features is not None}
    if real.features is None or len(places) < LEAST_FOR_KID:
        return on_real, None
    return on_real, compare_kid(features, real.features[0])


def _facts(judged: dict[str, Judged]) -> dict[str, dict[str, float]]:
    return {
        group: {name: float(np.nanmean(one.facts[group])) for name, one in judged.items()}
        for group in judged["base"].facts
    }


def _first(prompts: list[EvalPrompt], limit: int | None) -> list[EvalPrompt]:
    kept = sorted(place for places in by_category(prompts).values() for place in places[:limit])
    return [prompts[place] for place in kept]


def _complex(prompts: list[EvalPrompt], config: EvalConfig) -> list[str]:
    texts = [one.complex for one in prompts if one.complex]
    if len(texts) < len(prompts):
        without = len(prompts) - len(texts)
        raise SurdError(f"--complex: {without} prompts of {str(config.prompts)!r} have no complex one; leave it out")
    return texts


def _claim(config: EvalConfig, prompts: list[EvalPrompt], adapter: SURAdapter, pipe: Pipeline) -> None:
    """Make the folder this run's own, or find that it is. SurdError when it holds another run's pictures."""
    texts = json.dumps([[one.prompt, one.complex] for one in prompts])
    identity = config.model_dump(mode="json", include={"steps", "guidance_scale", "eta", "precision"}) | {
        "base model": weights_fingerprint(
            tensor for one in networks(pipe).values() for tensor in one.state_dict().values()
        ),
        "prompts": hashlib.sha256(texts.encode()).hexdigest(),
        "adapter": weights_fingerprint(adapter.state_dict().values()),
    }
    file = config.out / "run.json"
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        if file.exists():
            theirs = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(theirs, dict):
                raise ValueError(f"{file.name} is of no run")
            changed = sorted(name for name in identity if identity[name] != theirs.get(name))
            if changed:
                other = ", ".join(changed)
                raise SurdError(f"--out: {str(config.out)!r} holds pictures of another {other}; name another folder")
        write_json(file, identity)
    except (OSError, ValueError) as error:
        raise SurdError(f"--out: {str(config.out)!r} cannot be used ({error}); name another folder") from error


def _grid(path: Path, prompts: list[EvalPrompt], files: dict[str, np.ndarray]) -> None:
    """The first prompts of each category, with one picture of every arm and the real one where there is one."""
    rows = [place for places in by_category(prompts).values() for place in places[:GRID_ROWS]]
    columns: dict[str, list[Path]] = {name: [paths[0, place] for place in rows] for name, paths in files.items()}
    real = [prompts[place].image for place in rows]
    if all(real):
        columns["real"] = [file for file in real if file]
    shown = {name: [_load(file) for file in column] for name, column in columns.items()}
    draw_grid([f"{prompts[place].category}: {prompts[place].prompt}" for place in rows], shown).save(path)


def _load(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")
