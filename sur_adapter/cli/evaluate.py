"""``sur-eval``: measures whether an adapter helps."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sur_adapter.cli.app import run_app, typer_from_model
from sur_adapter.evaluation.config import Compared, EvalConfig, EvalResult, ForScorer, Interval
from surd.schemas.console import PlainConsole
from surd.schemas.printable import printable

ARMS = {"base": "base", "adapter": "adapter", "complex": "complex prompt"}
UNIT_SCALE = {"accuracy": 100.0}


def run(config: EvalConfig) -> None:
    """Measure what an adapter's pictures show, beside the base model's on the same noise.

    Each prompt is drawn with and without the adapter; a judge that no training used decides what the pictures show.
    Means by category, each with a 95% interval over seeds and prompts; the difference is paired.

    **Examples**

    - The demo world: `python -m surd.pipeline.demo.eval_prompts --out prompts.jsonl`, then
      `sur-eval --prompts prompts.jsonl --adapter runs/demo --out runs/demo-eval`

    - With a ceiling, the base model on keyword prompts: `sur-eval ... --complex`

    - Real models: `sur-eval --prompts PartiPrompts.tsv --adapter runs/sd15 --judge clip:ViT-L-14/openai --limit 20`

    - Their quality: `sur-eval ... --quality brisque --quality clip-iqa:RN50/openai`

    - Pictures for GenEval's own scorer: `sur-eval --protocol geneval --prompts evaluation_metadata.jsonl ...`

    The same command again draws only what is missing in --out.
    """
    from sur_adapter.evaluation.evaluate import evaluate  # only here: --help must not wait for torch

    columns = (
        TextColumn("draw"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=PlainConsole(stderr=True)) as progress:
        task = progress.add_task("", total=None, visible=False)
        result = evaluate(config, lambda done, total: progress.update(task, completed=done, total=total, visible=True))
    show(result, PlainConsole())
    if config.protocol and result.protocol:
        from sur_adapter.evaluation.protocol import PROTOCOLS

        show_protocol(PROTOCOLS[config.protocol].title, result.protocol)
    print(printable(f"{config.out / 'result.json'}  {config.out / 'grid.png'}"))


def show(result: EvalResult, console: Console) -> None:
    """Print the result as a table, and the accuracy of the judge."""
    scale = UNIT_SCALE.get(result.unit, 1.0)
    arms = list(result.average.arms)
    unit = f"{result.unit}, %" if scale == 100 else result.unit
    title = f"{unit}; {result.seeds} seeds a prompt, {result.steps} steps, guidance {result.guidance_scale:g}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "prompts", *(ARMS[arm] for arm in arms), "difference"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, compared in result.categories.items():
        _row(table, name, compared, scale)
    table.add_section()
    _row(table, "average", result.average, scale)
    if result.kid:
        _row(table, "KID, x1000", result.kid, 1000)
    for name, compared in result.quality.items():
        _row(table, name, compared, 1)
    console.print(table)
    for label, shares in (
        ("The judge's own accuracy, as its config states it", result.judge_accuracy),
        ("The judge on the real pictures of these prompts", result.judge_on_real),
    ):
        if shares:
            parts = ", ".join(f"{name} {scale * share:.1f}" for name, share in shares.items())
            console.print(f"{label}: {parts}", highlight=False)
    if result.kid:
        console.print("KID is in the judge's features, not Inception's: compare it with this table only.")


def show_protocol(title: str, laid: dict[str, ForScorer]) -> None:
    """Print where a benchmark's scorer finds the pictures of each arm, and how to run it."""
    print(f"These figures are the judge's, not {title}'s. For {title}'s own run, in its repository:")
    for arm, one in laid.items():
        print(printable(f"  {ARMS[arm]}: {one.folder}"))
        for command in one.commands:
            print(printable(f"    {command}"))


def _row(table: Table, name: str, compared: Compared, scale: float) -> None:
    arms = (_cell(interval, scale) for interval in compared.arms.values())
    table.add_row(name, str(compared.prompts), *arms, _cell(compared.difference, scale, "+"))


def _cell(interval: Interval, scale: float, sign: str = "") -> str:
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:{sign}.1f} ± {(high - low) / 2:.1f}"


def main() -> None:
    """Entry point of ``sur-eval``."""
    run_app(typer_from_model(EvalConfig, run))


if __name__ == "__main__":
    main()
