"""Data for the arms of bench-effect: datasets, a prompt file, and rewritten prompts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from sur_adapter.evaluation.prompts import read_eval_prompts
from surd.flows.build_request import request_build
from surd.flows.cli.console import Terminal
from surd.flows.request import resolve_config
from surd.flows.run_in_process import run_build
from surd.pipeline.build.folder import Build
from surd.pipeline.demo import eval_prompts
from surd.pipeline.models import Models
from surd.pipeline.runner.run_unit import finish, run_unit, units
from surd.pipeline.sentences.rewrite_template import RewriteTemplate, read_template
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig
from tests.bench.effect_arms import LAYERS, Data

#: No sentence is repaired, judged against its image or joined with another: the first candidate is taken.
NOT_CORRECTED: dict[str, Any] = {"correct.rounds": 0, "correct.tolerance": 1000.0, "correct.fuse": False}
ONE_WORDING: dict[str, Any] = {"correct.vary": False}
TAG_WORDS = "You turn a sentence about a picture into the short comma-separated tags that image generators like. "


def datasets(out: Path, seed: int, count: int, defects: float, console: Console) -> dict[Data, str]:
    """Shard patterns, all of the same pictures, a share of them with a planted defect."""
    params: dict[str, Any] = {
        "source": "demo", "seed": seed, "demo.count": count, "demo.defects": defects,
        "embed.layers": sorted(set(LAYERS.values())), "embed.pooling": ["mean", "tokens"],
        "embed.columns": ["latents", "clip-simple", "clip-complex"],
    }  # fmt: skip
    whole = out / "data"
    terminal = Terminal(console)
    try:
        run_build(request_build(out=str(whole), profile="demo", parameters=params), terminal)
    finally:
        terminal.close()
    patterns: dict[Data, str] = {"corrected": _pattern(whole)}
    others: dict[Data, dict[str, Any]] = {"not corrected": NOT_CORRECTED, "one wording": ONE_WORDING}
    for name, changes in others.items():
        copy = out / f"data-{name.replace(' ', '-')}"
        _continue(whole, copy, resolve_config("demo", params | changes), console)
        patterns[name] = _pattern(copy)
    return patterns


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


def _pattern(build: Path) -> str:
    shards = sorted((build / "shards").glob("surd-*.tar"))
    return f"{build.resolve()}/shards/surd-{{00000..{len(shards) - 1:05d}}}.tar"


def prompt_file(out: Path, seed: int, each: int) -> Path:
    """The evaluation prompts, with their true pictures."""
    file = out / f"prompts-{seed}-{each}.jsonl"
    if not file.exists():
        eval_prompts.write(file, seed, each)
    return file


def rewritten(prompts: Path) -> list[str]:
    """The file's prompts as keywords by the demo's LLM, from the shipped examples in reverse."""
    file = prompts.with_suffix(".rewritten.json")
    if not file.exists():
        template = read_template(None)
        backwards = RewriteTemplate(
            version=1,
            system=TAG_WORDS + "Keep what is shown, how many, the colours and the style.",
            ask="{prompt}",
            examples=tuple({"prompt": one.sentence, "sentence": one.prompt} for one in template.examples),
        )
        texts = [one.prompt for one in read_eval_prompts(prompts)]
        answers = Models(resolve_config("demo").models).llm.answer([backwards.chat(text) for text in texts], 40)
        tags = [(answer or "").strip() or text for answer, text in zip(answers, texts, strict=True)]
        file.write_text(json.dumps(tags, indent=1) + "\n", encoding="utf-8")
    return list(json.loads(file.read_text(encoding="utf-8")))
