"""make bench-effect: does the adapter help, and which part of it does the work?

Every arm is trained with several seeds on the same data, and draws the same prompts, several tiers of them, from the
same noise; a judge independent of all trainings classifies the pictures. A finished (arm, seed) leaves a JSON file and
is not run again; with another tier it draws that alone. Prints tables, writes them to docs/effect.md with all that is
needed to repeat them, and ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import get_args

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sur_adapter.training.config import TrainConfig
from surd.pipeline.demo.world.wordings import TIERS
from surd.pipeline.runner.process_setup import set_up_process
from surd.schemas import SurdError
from tests.bench.effect_arms import ARMS, FLOOR, RECIPE, Data
from tests.bench.effect_data import DataSettings, datasets, prompt_files, write_texts
from tests.bench.effect_job import Job, run_job
from tests.bench.effect_scores import Effect
from tests.bench.effect_table import document, tables

BASE = "package:pipeline/demo/models/diffusion"
JUDGE = "package:pipeline/demo/models/judge"


def main() -> int:
    """Make the data, run the jobs that are not done, write the table; 1 if a figure misses its goal."""
    set_up_process()
    args = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    logging.disable(logging.WARNING)
    try:
        jobs = _jobs(args, console)
        if not args.only_done:
            _run(jobs, args.workers, console)
    except (SurdError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    effect = Effect.read([job for job in jobs if job.done()])
    for table in tables(effect):
        if table.row_count:
            console.print(table)
    for figure in effect.figures():
        console.print(f"{figure.name}: {figure.value} (goal {figure.goal}) {'met' if figure.met else 'MISSED'}")
    if args.write:
        args.write.write_text(document(effect, _command(), vars(args)), encoding="utf-8")
        console.print(f"written to {args.write}")
    met = all(figure.met for figure in effect.figures())
    print(json.dumps({"met": met, "figures": {figure.name: figure.document() for figure in effect.figures()}}))
    return 0 if met else 1


def _jobs(args: argparse.Namespace, console: Console) -> list[Job]:
    chosen = [arm for arm in ARMS if args.trials or not arm.trial]
    chosen = [
        arm for arm in chosen if not args.arms or arm.name == FLOOR or any(_names(part, arm.name) for part in args.arms)
    ]
    if args.shards:
        patterns = dict.fromkeys(get_args(Data), args.shards)
        patterns["not corrected"] = args.shards_not_corrected or args.shards
    else:
        settings = DataSettings(
            seed=args.data_seed,
            count=args.count,
            defects=args.defects,
            people_count=args.people_count,
            people_seed=args.people_seed,
        )
        patterns = datasets(args.out, chosen, settings, console)
    prompts = {tier: Path(file) for tier, file in (pair.split("=", 1) for pair in args.prompts)}
    prompts = prompts or prompt_files(args.out, args.prompt_seed, args.each, args.tiers)
    for kind in {arm.kind for arm in chosen} & {"rewritten", "compel"}:
        for file in prompts.values():
            write_texts(file, kind)
    drawing = {"seeds": args.noise_seeds, "steps": args.drawing_steps, "guidance_scale": args.guidance_scale}
    TrainConfig.model_validate({"shards": "", **args.recipe})  # reports a mistake before anything is trained
    return [
        Job(
            arm=arm,
            seed=seed,
            shards="" if arm.training is None else patterns[arm.data],
            prompts=prompts,
            training={} if arm.training is None else (args.recipe if arm.recipe else {}) | dict(arm.training),
            out=args.out / "results",
            base=args.base,
            judge=args.judge,
            drawing=drawing,
        )
        for arm in chosen
        for seed in range(1 if arm.training is None else args.train_seeds)
    ]


def _names(part: str, name: str) -> bool:
    """Whether a word of --arms means the arm of this name: a whole name means that one alone."""
    return part == name if part in {arm.name for arm in ARMS} else part in name


def _run(jobs: list[Job], workers: int, console: Console) -> None:
    """Run the jobs that are not done, several at a time, each process on one core."""
    remaining = [job for job in jobs if not job.done()]
    console.print(f"{len(jobs)} jobs, {len(jobs) - len(remaining)} done before", highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("jobs"), TimeElapsedColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_core)
    with Progress(*columns, console=console) as progress, pool:
        task = progress.add_task("", total=len(remaining))
        running = {pool.submit(run_job, job): job for job in remaining}
        try:
            for future in as_completed(running):
                job = running[future]
                console.print(f"{job.arm.name}, seed {job.seed}: {future.result()}", highlight=False)
                progress.update(task, advance=1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _one_core() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)


def _command() -> str:
    return shlex.join(["python", "-m", "tests.bench.effect", *sys.argv[1:]])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.effect", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/effect"), help="data, adapters, pictures and results")
    parser.add_argument(
        "--arms",
        nargs="*",
        default=[],
        help="only the base and arms of these names, or whose name contains one of these",
    )
    parser.add_argument("--trials", action="store_true", help="include the arms named trial")
    parser.add_argument("--train-seeds", type=int, default=3)
    parser.add_argument("--noise-seeds", type=int, default=1, help="pictures per prompt")
    parser.add_argument("--tiers", nargs="*", default=list(TIERS), choices=TIERS, help="of the demo's prompts")
    parser.add_argument("--each", type=int, default=20, help="prompts per category and tier")
    parser.add_argument(
        "--prompts",
        nargs="*",
        default=[],
        metavar="TIER=FILE",
        help="prompt files of your own instead, as for sur-eval",
    )
    parser.add_argument("--steps", type=int, default=300, help="training steps, except with the authors' settings")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="settings over the recipe, such as eta=0.5"
    )
    parser.add_argument("--drawing-steps", type=int, default=10)
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument("--count", type=int, default=1500, help="pictures in the demo gallery for training")
    parser.add_argument("--defects", type=float, default=0.5, help="share of them with a planted defect")
    parser.add_argument(
        "--people-count", type=int, default=3000, help="pictures for arms trained on people's sentences"
    )
    parser.add_argument("--people-seed", type=int, default=7000)
    parser.add_argument("--data-seed", type=int, default=6000)
    parser.add_argument("--prompt-seed", type=int, default=5000)
    parser.add_argument("--shards", help="a dataset of your own instead, with columns of all the layers")
    parser.add_argument("--shards-not-corrected")
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--judge", default=JUDGE)
    parser.add_argument("--workers", type=int, default=2, help="jobs at once, one core each")
    parser.add_argument(
        "--only-done", action="store_true", help="run nothing: write the table of the jobs that are done"
    )
    parser.add_argument("--write", type=Path, default=Path("docs/effect.md"), help="file of the document")
    args = parser.parse_args()
    args.recipe = RECIPE | {"steps": args.steps} | dict(pair.split("=", 1) for pair in args.set)
    return args


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main())
