"""Data for the arms of bench-effect: datasets with their columns, prompt files, and prompts in other words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sur_adapter.evaluation.prompts import read_eval_prompts
from surd.flows.add_columns import add_columns
from surd.flows.build_request import request_build
from surd.flows.cli.console import Terminal
from surd.flows.request import resolve_config
from surd.flows.run_in_process import run_build
from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.sentences.rewrite_template import RewriteTemplate, read_template
from surd.pipeline.stages import STAGES
from surd.pretrained.gguf import unpacked
from surd.schemas import BuildConfig, SurdError, resolve_model
from tests.bench.effect_arms import LAYERS, Arm, Data
from tests.bench.effect_controls import RANDOM_LLM, random_llm, weighed

#: No sentence is repaired, judged against its image or joined with another: the first candidate is taken.
NOT_CORRECTED: dict[str, Any] = {"correct.rounds": 0, "correct.tolerance": 1000.0, "correct.fuse": False}
ONE_WORDING: dict[str, Any] = {"correct.vary": False}
TAG_WORDS = "You turn a sentence about a picture into the short comma-separated tags that image generators like. "


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How training data are made: the demo's gallery of ``count`` pictures of world ``seed``, a share of ``defects``
    with a planted defect, and ``people_count`` pictures of world ``people_seed`` with people's sentences. The LLM of
    random weights is drawn from ``llm_seed``."""

    seed: int
    count: int
    defects: float
    people_count: int
    people_seed: int
    llm_seed: int = 0


def datasets(out: Path, arms: Sequence[Arm], settings: DataSettings, console: Console) -> dict[Data, str]:
    """Shard patterns of the data that these arms are trained on, with the columns that they read."""
    trained = [arm for arm in arms if arm.training is not None]
    wanted = {arm.data for arm in trained}
    patterns: dict[Data, str] = {}
    if "people" in wanted:
        patterns["people"] = _people(out / "people", settings, console)
    if wanted - {"people"}:
        patterns |= _demo(out, wanted, settings, console)
    for name, pattern in patterns.items():
        add_llm_columns(pattern, [arm for arm in trained if arm.data == name], out, settings.llm_seed, console)
    return patterns


def _demo(out: Path, wanted: set[Data], settings: DataSettings, console: Console) -> dict[Data, str]:
    """The demo world through the pipeline; all of the same pictures."""
    params: dict[str, Any] = {
        "source": "demo", "seed": settings.seed, "demo.count": settings.count, "demo.defects": settings.defects,
        "embed.layers": sorted(set(LAYERS.values())), "embed.pooling": ["mean", "tokens"],
        "embed.columns": ["latents", "clip-simple", "clip-complex"],
    }  # fmt: skip
    whole = out / "data"
    terminal = Terminal(console)
    try:
        run_build(request_build(out=str(whole), profile="demo", parameters=params), terminal)
    finally:
        terminal.close()
    patterns: dict[Data, str] = {"corrected": shard_pattern(whole)}
    others: dict[Data, dict[str, Any]] = {"not corrected": NOT_CORRECTED, "one wording": ONE_WORDING}
    for name, changes in others.items():
        if name not in wanted:
            continue
        copy = out / f"data-{name.replace(' ', '-')}"
        _continue(whole, copy, resolve_config("demo", params | changes), console)
        patterns[name] = shard_pattern(copy)
    return patterns


def _people(build: Path, settings: DataSettings, console: Console) -> str:
    """Sentences as people word them, with their pictures; latents and text states beside them."""
    if not build.exists():
        partial = build.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run_module(
            "surd.pipeline.demo.training_set", out=partial, count=settings.people_count, seed=settings.people_seed
        )
        partial.rename(build)
    add_columns(str(build), {"embed.columns": ["latents", "clip-simple", "clip-complex"]}, lambda done, total: None)
    console.print(f"{build.name}: latents and text states done", highlight=False)
    return shard_pattern(build)


def add_llm_columns(pattern: str, arms: Sequence[Arm], out: Path, llm_seed: int, console: Console) -> None:
    """The LLM columns that the arms read and their build has not; those of the random LLM by a folder beside it."""
    build = Path(pattern).parent.parent
    for arm in arms:
        suffix = arm.column_suffix(arm.training or {})
        if suffix is None or llm_columns(build, suffix, random=arm.llm == "random"):
            continue
        layer, _, pooling = suffix.partition("-")
        fields: dict[str, Any] = {"embed.pooling": ["all-layers"]}
        if suffix != "all-layers":
            fields = {"embed.layers": [int(layer.removeprefix("l"))], "embed.pooling": [pooling or "mean"]}
        llm = str(demo_llm())
        if arm.llm == "random":
            llm = str(random_llm(unpacked(Path(resolve_model(llm)), "float32"), out.resolve() / RANDOM_LLM, llm_seed))
        fields |= {"models.llm": llm, "models.embed_llm": llm}
        add_columns(str(build), fields, lambda done, total: None)
        console.print(f"{build.name}: column {suffix} of the {arm.llm} LLM done", highlight=False)


def llm_columns(build: Path, suffix: str, *, random: bool) -> list[str]:
    """Names of the finished LLM columns that end so, made by the LLM of random weights or by another."""
    names = [file.parent.name for file in (build / "columns").glob(f"llm-*-{suffix}/manifest.json")]
    return sorted(name for name in names if name.startswith(f"llm-{RANDOM_LLM}-") == random)


def demo_llm() -> str:
    """The demo profile's LLM, as a config names it."""
    return str(resolve_config("demo").models.llm)


def _run_module(name: str, **flags: object) -> None:
    """Run one of the demo's programs. SurdError with its last line if it fails."""
    pairs = [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
    done = subprocess.run([sys.executable, "-m", name, *pairs], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise SurdError(f"python -m {name} failed ({said[-1] if said else 'it said nothing'}); run it alone to see why")


def _continue(whole: Path, copy: Path, config: BuildConfig, console: Console) -> None:
    """A further build from the candidates of another, sharing its files up to there."""
    names = [stage.name for stage in STAGES]
    first = names.index("correct")
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in names[:first]:
            shutil.copytree(whole / name, partial / name, copy_function=os.link)
        partial.rename(copy)
    for stage in STAGES[first : names.index("embed") + 1]:
        for unit in range(units(stage, Build(str(copy)))):
            run_unit(stage, unit, str(copy.resolve()), config)
        finish(stage, str(copy.resolve()), config)
        console.print(f"{copy.name}: {stage.name} done", highlight=False)


def shard_pattern(build: Path) -> str:
    shards = sorted((build / "shards").glob("surd-*.tar"))
    return f"{build.resolve()}/shards/surd-{{00000..{len(shards) - 1:05d}}}.tar"


def prompt_files(out: Path, seed: int, each: int, tiers: Sequence[str]) -> dict[str, Path]:
    """The evaluation prompts of each tier, with their true pictures."""
    files = {tier: out / f"prompts-{tier}-{seed}-{each}.jsonl" for tier in tiers}
    for tier, file in files.items():
        if not file.exists():
            _run_module("surd.pipeline.demo.eval_prompts", out=file, seed=seed, each=each, tier=tier)
    return files


def text_file(prompts: Path, kind: str) -> Path:
    """Where the texts lie that a pipeline is given for the prompts of a file: JSON, prompt -> text."""
    return prompts.with_suffix(f".{kind}.json")


def write_texts(prompts: Path, kind: str) -> dict[str, str]:
    """The texts of an arm's kind for the prompts of a file, made unless they are there."""
    file = text_file(prompts, kind)
    wanted = list(dict.fromkeys(one.prompt for one in read_eval_prompts(prompts)))
    stored: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if list(stored) != wanted:
        make = {"rewritten": rewritten, "compel": weighed}[kind]
        stored = dict(zip(wanted, make(wanted), strict=True))
        file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return stored


def rewritten(texts: Sequence[str]) -> list[str]:
    """Prompts as keywords by the demo's LLM, from the shipped examples in reverse; as they were if it says nothing."""
    template = read_template(None)
    backwards = RewriteTemplate(
        version=1,
        system=TAG_WORDS + "Keep what is shown, how many, the colours and the style.",
        ask="{prompt}",
        examples=tuple({"prompt": one.sentence, "sentence": one.prompt} for one in template.examples),
    )
    answers = Models(resolve_config("demo").models).llm.answer([backwards.chat(text) for text in texts], 40)
    return [(answer or "").strip() or text for answer, text in zip(answers, texts, strict=True)]
