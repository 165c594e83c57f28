"""Accuracy of curation on a demo world with planted defects: make bench-curation SEED=7001 SIZE=1000.

Builds the world, compares every row with the truth, and prints tables and, last, one JSON line with every figure beside
its goal. Exit code 1 when a figure misses its goal, 2 when the build cannot be made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from surd.flows.build_request import request_build
from surd.flows.cli.console import Terminal
from surd.flows.request import parse_params, resolve_config
from surd.flows.run_in_process import run_build
from surd.pipeline.build.folder import Build
from surd.pipeline.demo.world.defects import KINDS
from surd.pipeline.demo.world.files import write_truth
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import STAGES
from surd.schemas import SurdError
from tests.bench.ablations import ABLATIONS, WITH_LLM, Arm, ablation_figures, llm_gain, run_ablations
from tests.bench.figures import Figure, figures_of, model_figures
from tests.bench.judge import Record, Score, lost, payload_left, read_records, read_truth, score_kinds
from tests.bench.truthfulness import Repairs, Rule, Tally, judge_repairs, judge_rules, tally

#: The paper's rule alone (arXiv 2305.05189), which has no thresholds.
PAPER: dict[str, Any] = {
    "correct.rule": "paper", "select.min_clip_simple": -1.0, "select.min_clip_complex": -1.0,
    "select.false_match_rate_simple": None, "select.false_match_rate_complex": None, "select.max_similarity": None,
}  # fmt: skip


def main() -> None:
    """Measure, print, and exit with the verdict."""
    set_up_process()
    args = _arguments()
    console = Console() if sys.stdout.isatty() else Console(width=160)
    out = args.out or Path(f"data/bench-curation-{args.seed}-{args.size}")
    try:
        met = _bench(args, out, console)
    except SurdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if not args.keep and args.out is None:
        for folder in (out, paper_folder(out)):
            shutil.rmtree(folder, ignore_errors=True)
        truth_file(out).unlink(missing_ok=True)
    sys.exit(0 if met else 1)


def _bench(args: argparse.Namespace, out: Path, console: Console) -> bool:
    params: dict[str, Any] = {"seed": args.seed, "demo.count": args.size, "demo.defects": args.defects}
    params |= {"source": "demo"} | parse_params(args.param)
    resolve_config("demo", params)  # reports a mistake before anything is drawn
    out.parent.mkdir(parents=True, exist_ok=True)
    write_truth(truth_file(out), args.size, args.seed, args.defects)
    build(params, out, console)
    truths = read_truth(truth_file(out))
    records = read_records(str(out), truths)
    console.print("\nThe same candidates by the paper's rule")
    paper = read_records(str(build_by_paper(params, out, console)), truths)
    measured = measure(records, paper)
    print_tables(console, records, **measured)
    figures = figures_of(**measured)
    arms: list[Arm] = []
    if args.ablations:
        console.print("\nThe same captions with one part of correction changed")
        arms = run_ablations(out, params, truths, console, [name for name in ABLATIONS if args.llm or name != WITH_LLM])
        print_arms(console, arms)
        figures += ablation_figures(arms)
    if args.models:
        console.print("\nThe embedded models on this world, never trained on")
        figures += model_figures(args.seed, console)
    print_figures(console, figures)
    met = all(figure.met for figure in figures)
    document = {"seed": args.seed, "size": args.size, "defects": args.defects, "met": met}
    document |= {"llm_gain": llm_gain(arms), "ablations": [dataclasses.asdict(one) for one in arms]}
    print(json.dumps(document | {"figures": {figure.name: figure.document() for figure in figures}}))
    return met


def measure(records: list[Record], paper: list[Record]) -> dict[str, Any]:
    """The input of the tables and figures."""
    kept = [record for record in records if record.kept]
    wrongly_rejected, merged = lost(records)
    return {
        "kinds": score_kinds(records),
        "wrongly_rejected": wrongly_rejected,
        "merged": merged,
        "sound": sum(record.sound for record in records),
        "before": tally((str(record.before), record.truth) for record in kept),
        "after": tally((str(record.simple), record.truth) for record in kept),
        "repairs": judge_repairs(records),
        "rules": judge_rules(records, paper),
        "wrong_facts": wrong_fact_samples(records),
    }


def wrong_fact_samples(records: Iterable[Record]) -> dict[str, tuple[int, int]]:
    """Kind -> (kept samples, those whose simple prompt is true to the picture), of the kinds judged by that."""
    counts = {name: (0, 0) for name, kind in KINDS.items() if kind.must == "truth"}
    scores = score_kinds(record for record in records if record.kept)
    return counts | {name: (scores[name].planted, scores[name].handled) for name in counts}


def build(params: dict[str, Any], out: Path, console: Console) -> None:
    """Build with the real flow; an unexpected error is printed with the stage's name."""
    terminal = _StageTerminal(console)
    started = time.perf_counter()
    try:
        summary = run_build(request_build(out=str(out), profile="demo", parameters=params), terminal)
    except SurdError:
        raise
    except Exception as error:
        print(f"error: stage {terminal.stage} of the build failed: {error!r}", file=sys.stderr)
        raise
    finally:
        terminal.close()
    kept, took = summary["kept"], time.perf_counter() - started
    console.print(f"{summary['collected']} records, {kept} kept, {took:.0f} s", highlight=False)


def build_by_paper(params: dict[str, Any], out: Path, console: Console) -> Path:
    """A copy of the build up to the candidates, corrected by the paper's rule; returns its folder."""
    config, copy = resolve_config("demo", params, PAPER), paper_folder(out)
    names = [stage.name for stage in STAGES]
    shutil.rmtree(copy, ignore_errors=True)
    for name in names[: names.index("correct")]:
        shutil.copytree(out / name, copy / name, copy_function=os.link)
    for stage in STAGES[names.index("correct") : names.index("select") + 1]:
        for unit in range(units(stage, Build(str(copy)))):
            run_unit(stage, unit, str(copy.resolve()), config)
        console.print(f"{stage.name:8} done", highlight=False)
    return copy


def paper_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}-paper")


def truth_file(out: Path) -> Path:
    """The truth's file, beside the build and never in it."""
    return out.with_name(f"{out.name}.truth.jsonl")


class _StageTerminal(Terminal):
    """A terminal that keeps the name of the running stage."""

    stage = "(none)"

    def stage_started(self, stage: str, units: int) -> None:
        self.stage = stage
        super().stage_started(stage, units)


def print_tables(
    console: Console, records: list[Record], *, kinds: dict[str, Score], wrongly_rejected: list[Record], merged: int,
    sound: int, before: dict[str, Tally], after: dict[str, Tally], repairs: Repairs, rules: list[Rule],
    wrong_facts: dict[str, tuple[int, int]],
) -> None:  # fmt: skip
    """All but the figures with goals."""
    table = _table("Planted defects", "kind", "must", "planted", "handled", "share", "outcomes")
    for name, score in kinds.items():
        outcomes = ", ".join(f"{count} {what}" for what, count in score.outcomes.most_common())
        table.add_row(name, KINDS[name].must, str(score.planted), str(score.handled), percent(score.share), outcomes)
    console.print(table)
    for record in records:
        if record.kept and record.truth["payload"] and (left := payload_left(record)):
            console.print(f"{record.id} keeps {', '.join(left)}", highlight=False, markup=False)
    wrong = len(wrongly_rejected)
    console.print(f"\nSound records: {sound}, wrongly rejected {wrong}, merged with one of the same facts {merged}")
    for record in wrongly_rejected[:40]:
        line = f"  {record.id} {record.rejected_by}: {record.reason} ({record.detail}) {str(record.complex)[:80]}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    table = _table("Kept samples of the kinds judged by their simple prompt", "kind", "kept", "true to the picture")
    for name, (kept, true) in wrong_facts.items():
        table.add_row(name, str(kept), f"{true} ({percent(true / kept if kept else None)})")
    console.print(table)
    shares = ("true before", "true after", "stated before", "stated after")
    table = _table("Facts of the kept simple prompts", "group", "asserted", *shares)
    for group, now in after.items():
        earlier = before[group]
        row = (earlier.precision, now.precision, earlier.recall, now.recall)
        table.add_row(group, str(now.asserted), *map(percent, row))
    console.print(table)
    console.print(
        f"\nRepairs: {repairs.made} sentences; a wrong fact corrected in {repairs.fixed}, "
        f"a right one made wrong in {repairs.broke}, a right one left out in {repairs.dropped}"
    )
    table = _table("Rules, over the pairs that CLIP has scored", "rule", "kept", "false facts per sample",
                   "wrong-fact pairs kept untrue", "mismatched pairs kept", "good pairs lost")  # fmt: skip
    for rule in rules:
        false = "-" if rule.false_facts is None else f"{rule.false_facts:.3f}"
        table.add_row(rule.name, str(rule.kept), false, str(rule.untrue), str(rule.mismatched),
                      f"{rule.good_lost} of {rule.good}")  # fmt: skip
    console.print(table)


def print_figures(console: Console, figures: list[Figure]) -> None:
    """Each figure beside its goal."""
    table = _table("Figures", "figure", "value", "goal", "")
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.4f}"
        table.add_row(figure.name, value, figure.goal, "met" if figure.met else "MISSED")
    console.print(table)


def print_arms(console: Console, arms: list[Arm]) -> None:
    """The ablations, each share with its 95% interval."""
    columns = (
        "ablation",
        "kept",
        "true of those stated",
        "true facts stated, of all",
        "repairs that broke a fact",
        "s",
    )
    table = _table("Ablations, with 95% intervals", *columns)
    for one in arms:
        shares = [
            f"{percent(share)} ({percent(low)} to {percent(high)})" for share, low, high in (one.true, one.stated)
        ]
        table.add_row(one.name, str(one.kept), *shares, percent(one.broke), f"{one.seconds:.0f}")
    console.print(table)
    if (gain := llm_gain(arms)) is not None:
        console.print(f"The LLM adds {100 * gain:.1f} points of stated true facts")


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.curation", description=__doc__)
    parser.add_argument("--seed", type=int, default=7001, help="demo world; use one never trained on (7001)")
    parser.add_argument("--size", type=int, default=1000, help="records (1000)")
    parser.add_argument("--defects", type=float, default=0.5, help="share of records with a planted defect (0.5)")
    parser.add_argument(
        "--out", type=Path, help="folder of the build, which is kept (default: below data/, removed at the end)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the build")
    parser.add_argument("--models", action="store_true", help="measure the embedded models too")
    parser.add_argument("--ablations", action="store_true", help="measure what each part of correction does")
    parser.add_argument("--no-llm", dest="llm", action="store_false", help="leave out the ablation that asks the LLM")
    parser.add_argument("--param", action="append", default=[], metavar="FIELD=VALUE", help="any config field, dotted")
    return parser.parse_args()


if __name__ == "__main__":
    main()
