"""Ablations of semantic correction: the same pictures and captions, with one part of it changed at a time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from surd.flows.request import resolve_config
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import STAGES
from tests.bench.figures import Figure
from tests.bench.judge import Record, read_records
from tests.bench.truthfulness import Tally, judge_repairs, tally

RATES = (0.01, 0.02, 0.05)
_RESAMPLES = 1000
_NO_LLM = {"rewrite.enabled": False, "correct.fuse": False}
#: Name -> what is changed in the demo profile.
ABLATIONS: dict[str, dict[str, Any]] = {
    "witnesses clip and vqa": {"correct.witnesses": ["clip", "vqa"]},
    "witness clip": {"correct.witnesses": ["clip"]},
    "witness vqa (no CLIP)": {"correct.witnesses": ["vqa"]},
    "nothing added": {"correct.add": False},
    "nothing corrected": {"correct.rounds": 0},
    "closed lexicon": {"correct.only_lexicon": True},
    "no LLM": _NO_LLM,
    "with the LLM": {"rewrite.enabled": True},
} | {f"false-fact rate {rate:g}": {"correct.false_fact_rate": rate} for rate in RATES}


WITH_LLM = "with the LLM"


@dataclass(frozen=True)
class Arm:
    """The outcome of one ablation, over its kept samples: facts asserted and true, possible and stated."""

    name: str
    kept: int
    true: tuple[float, float, float]
    stated: tuple[float, float, float]
    broke: float
    seconds: float


def rebuilt(out: Path, name: str, params: Mapping[str, Any], changes: Mapping[str, Any], first: str) -> Path:
    """A copy of the build at ``out`` up to stage ``first``, and from there to select with ``changes``; its folder."""
    config, copy = resolve_config("demo", dict(params), dict(changes)), out.with_name(f"{out.name}-{name}")
    names = [stage.name for stage in STAGES]
    shutil.rmtree(copy, ignore_errors=True)
    for stage in names[: names.index(first)]:
        shutil.copytree(out / stage, copy / stage, copy_function=os.link)
    for stage in STAGES[names.index(first) : names.index("select") + 1]:
        for unit in range(units(stage, Build(str(copy)))):
            run_unit(stage, unit, str(copy.resolve()), config)
    return copy


def run_ablations(
    out: Path, params: Mapping[str, Any], truths: Mapping[str, Mapping[str, Any]], console: Console,
    names: Sequence[str] = tuple(ABLATIONS),
) -> list[Arm]:  # fmt: skip
    """Each ablation in its turn; the copies are removed."""
    arms = []
    for name in names:
        changes = ABLATIONS[name]
        started = time.perf_counter()
        first = "rewrite" if any(field.startswith("rewrite.") for field in changes) else "correct"
        copy = rebuilt(out, "ablation", params, changes, first)
        try:
            arms.append(arm(name, read_records(str(copy), truths), time.perf_counter() - started))
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        console.print(f"{name}: {arms[-1].seconds:.0f} s", highlight=False)
    return arms


def arm(name: str, records: Sequence[Record], seconds: float) -> Arm:
    """The figures of one build."""
    kept = [record for record in records if record.kept]
    repairs = judge_repairs(records)
    return Arm(
        name, len(kept),
        interval(kept, lambda one: (one.true, one.asserted), "simple"),
        interval(kept, lambda one: (one.stated, one.possible), "simple"),
        repairs.broke / repairs.made if repairs.made else 0.0, seconds,
    )  # fmt: skip


def interval(
    records: Sequence[Record], ratio: Callable[[Tally], tuple[int, int]], text: str
) -> tuple[float, float, float]:
    """A ratio over the facts of a text of records, with its 95% interval by bootstrap over the records."""
    counts = np.array([ratio(tally([(str(getattr(one, text)), one.truth)])["all"]) for one in records], float)
    if not len(counts) or not counts[:, 1].sum():
        return (float("nan"),) * 3
    rng = np.random.default_rng(0)
    sums = counts[rng.integers(0, len(counts), (_RESAMPLES, len(counts)))].sum(1)
    low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1), (0.025, 0.975))
    return float(counts[:, 0].sum() / counts[:, 1].sum()), float(low), float(high)


def ablation_figures(arms: Sequence[Arm]) -> list[Figure]:
    """What the ablations have to show: the rates that were asked for, and what the LLM is worth."""
    by_name = {one.name: one for one in arms}
    figures = []
    for rate in RATES:
        if one := by_name.get(f"false-fact rate {rate:g}"):
            false = 1 - one.true[0]
            figures += [
                Figure(f"false_facts_asked_{rate:g}", false, "<=", 2 * rate),
                Figure(f"false_facts_asked_{rate:g}_at_least", false, ">=", rate / 2),
            ]
    return figures


def llm_gain(arms: Sequence[Arm]) -> float | None:
    """By how much the share of stated true facts rises with the LLM; None if it was not measured."""
    by_name = {one.name: one for one in arms}
    try:
        return by_name[WITH_LLM].stated[0] - by_name["no LLM"].stated[0]
    except KeyError:
        return None
